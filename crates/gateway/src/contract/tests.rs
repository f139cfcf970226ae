use std::path::Path;

use serde_json::json;

use super::*;

fn contract() -> Contract {
    Contract::read(candlefish_proto::DESCRIPTORS).unwrap()
}

#[test]
fn every_public_method_has_a_role_and_a_rest_mapping() {
    let contract = contract();
    assert!(
        contract.methods().len() > 30,
        "{}",
        contract.methods().len()
    );
    for method in contract.methods() {
        assert!(method.role > Role::Unspecified, "{}", method.path);
        assert!(!method.routes.is_empty(), "{}", method.path);
        assert!(!method.comment.is_empty(), "{}", method.path);
    }
}

#[test]
fn internal_methods_are_not_in_the_table() {
    let contract = contract();
    for path in [
        "/candlefish.deploy.v1.EdgeService/WatchRoutes",
        "/candlefish.event.v1.FeedService/Head",
        "/candlefish.event.v1.FeedService/Replay",
    ] {
        assert!(contract.method(path).is_none(), "{path}");
    }
}

#[test]
fn a_path_finds_its_method_and_says_what_else_it_takes() {
    let contract = contract();
    let found = |verb: HttpMethod, path: &str| match contract.lookup(&verb, path) {
        Lookup::Hit(hit) => hit.method.name.clone(),
        Lookup::OtherMethods(others) => format!("methods {others:?}"),
        Lookup::OtherVerbs(others) => format!("verbs {others:?}"),
        Lookup::Nothing => "nothing".to_owned(),
    };
    let table = [
        (HttpMethod::GET, "/v1/deployments/dep_1", "GetDeployment"),
        (
            HttpMethod::GET,
            "/v1/deployments/dep_1:watch",
            "WatchDeployment",
        ),
        (
            HttpMethod::POST,
            "/v1/deployments/dep_1:cancel",
            "CancelDeployment",
        ),
        (HttpMethod::POST, "/v1/deployments", "CreateDeployment"),
        (
            HttpMethod::POST,
            "/v1/sites/a/environments/b/hold:lift",
            "LiftHold",
        ),
        (
            HttpMethod::PUT,
            "/v1/sites/a/environments/b/hold",
            "SetHold",
        ),
        (HttpMethod::GET, "/v1/events", "WatchEvents"),
        (HttpMethod::DELETE, "/v1/deployments/dep_1", "methods [GET]"),
        (HttpMethod::PUT, "/v1/sites", "methods [POST, GET]"),
        (
            HttpMethod::POST,
            "/v1/queues/x:retry",
            "verbs [\"replay\", \"discard\"]",
        ),
        (HttpMethod::GET, "/v1/nothing", "nothing"),
        (HttpMethod::GET, "/", "nothing"),
    ];
    for (verb, path, expected) in table {
        assert_eq!(found(verb.clone(), path), expected, "{verb} {path}");
    }
}

#[test]
fn creating_calls_know_where_their_resource_is_read() {
    let contract = contract();
    let made = |method: &str, json: serde_json::Value| {
        let method = contract
            .methods()
            .iter()
            .find(|known| known.name == method)
            .unwrap();
        let response =
            prost_reflect::DynamicMessage::deserialize(method.output.clone(), json).unwrap();
        method
            .creates
            .as_ref()
            .map(|creates| creates.made(&response))
    };
    let at = |path: &str| Some(Some(Some(path.to_owned())));
    assert_eq!(
        made("CreateDeployment", json!({"id": "dep_1"})),
        at("/v1/deployments/dep_1")
    );
    assert_eq!(
        made("RetryDeployment", json!({"id": "dep_2"})),
        at("/v1/deployments/dep_2")
    );
    assert_eq!(
        made("CreateSite", json!({"id": "site_1", "slug": "docs"})),
        at("/v1/sites/docs")
    );
    assert_eq!(
        made(
            "CreateEnvironment",
            json!({"site": "docs", "slug": "staging"})
        ),
        at("/v1/sites/docs/environments/staging")
    );
    assert_eq!(
        made("CreateRelease", json!({"id": "rel_1"})),
        at("/v1/releases/rel_1")
    );
    assert_eq!(
        made("CreateRollback", json!({"deployment": {"id": "dep_3"}})),
        at("/v1/deployments/dep_3")
    );
    let again = json!({"deployment": {"id": "dep_3"}, "already": true});
    assert_eq!(made("CreateRollback", again), Some(None));
    assert_eq!(made("CreateRollback", json!({})), Some(None));
    assert_eq!(
        made("CreateToken", json!({"token": {"id": "tok_1"}})),
        Some(Some(None))
    );
    assert_eq!(
        made("CreatePrincipal", json!({"id": "prn_1"})),
        Some(Some(None))
    );
    assert_eq!(made("CancelDeployment", json!({"id": "dep_1"})), None);
    assert_eq!(made("GetDeployment", json!({"id": "dep_1"})), None);
}

#[test]
fn streams_know_how_they_are_resumed() {
    let contract = contract();
    let ids = |path: &str| {
        let ids = contract.method(path).unwrap().stream_ids.clone();
        ids.map(|ids| (ids.from.name().to_owned(), ids.to.name().to_owned()))
    };
    let pair = |from: &str, to: &str| Some((from.to_owned(), to.to_owned()));
    let watch = "/candlefish.deploy.v1.DeploymentService/WatchDeployment";
    assert_eq!(ids(watch), pair("version", "after_version"));
    assert_eq!(
        ids("/candlefish.event.v1.EventService/WatchEvents"),
        pair("cursor", "cursor")
    );
    assert_eq!(
        ids("/candlefish.deploy.v1.DeploymentService/GetDeployment"),
        None
    );
}

#[test]
fn a_field_that_needs_a_higher_role_is_named() {
    let contract = contract();
    let path = "/candlefish.deploy.v1.DeploymentService/CreateDeployment";
    let method = contract.method(path).unwrap();
    let json = json!({"site": "docs", "lift_hold": "it is fine"});
    let request = prost_reflect::DynamicMessage::deserialize(method.input.clone(), json).unwrap();
    assert!(method.guarded.breaches(&request, Role::Approver).is_empty());
    let breaches = method.guarded.breaches(&request, Role::Deployer);
    let expected = guard::Breach {
        field: "lift_hold".to_owned(),
        role: Role::Approver,
    };
    assert_eq!(breaches, [expected]);
}

/// What is said of a contract with these methods.
fn refused(package: &str, methods: &str) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.proto");
    let text = format!(
        r#"syntax = "proto3";
        package {package};
        import "candlefish/access/v1/options.proto";
        import "google/api/annotations.proto";
        message Asked {{ string id = 1; int32 count = 2; repeated string names = 3; }}
        message Answered {{}}
        service BadService {{ {methods} }}"#
    );
    std::fs::write(&file, text).unwrap();
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let mut compiler = protox::Compiler::new([proto.as_path(), folder.path()]).unwrap();
    compiler.include_imports(true).open_file(&file).unwrap();
    Contract::read(&compiler.encode_file_descriptor_set()).unwrap_err()
}

/// A method of these options, for a viewer.
fn method(name: &str, http: &str) -> String {
    format!(
        "rpc {name}(Asked) returns (Answered) {{
             option (google.api.http) = {{{http}}};
             option (candlefish.access.v1.access) = {{role: ROLE_VIEWER}};
         }}"
    )
}

const DEPLOY: &str = "candlefish.deploy.v1";

#[test]
fn a_method_that_says_not_who_may_call_it_is_refused() {
    for access in [
        "",
        "option (candlefish.access.v1.access) = {};",
        "option (candlefish.access.v1.access) = {role: ROLE_UNSPECIFIED};",
    ] {
        let bad = format!(
            "rpc Look(Asked) returns (Answered) {{
                 option (google.api.http) = {{get: \"/v1/looks\"}}; {access}
             }}"
        );
        let error = refused(DEPLOY, &bad);
        assert!(
            matches!(&error, Error::NoAccess(name) if name.ends_with(".Look")),
            "{error}"
        );
    }
}

#[test]
fn a_path_that_no_request_can_fill_is_refused() {
    // No field, a number, a list.
    for unfit in ["nothing", "count", "names"] {
        let http = format!("get: \"/v1/looks/{{{unfit}}}\"");
        let error = refused(DEPLOY, &method("Look", &http));
        assert!(
            matches!(&error, Error::PathField { field, .. } if field == unfit),
            "{unfit}: {error}"
        );
    }
    for path in ["v1/looks", "/v1//looks", "/v1/{id=looks/*}", "/v1/**"] {
        let error = refused(DEPLOY, &method("Look", &format!("get: \"{path}\"")));
        assert!(matches!(error, Error::Template { .. }), "{path}: {error}");
    }
}

#[test]
fn a_body_of_one_field_is_refused() {
    let http = "post: \"/v1/looks/{id}\" body: \"names\"";
    let error = refused(DEPLOY, &method("Look", http));
    assert!(
        matches!(&error, Error::Body { body, .. } if body == "names"),
        "{error}"
    );
}

#[test]
fn two_methods_at_one_route_are_refused() {
    let one = method("Look", "get: \"/v1/looks/{id}\"");
    let other = method("Peek", "get: \"/v1/looks/{id}\"");
    match refused(DEPLOY, &format!("{one}{other}")) {
        Error::Twice {
            route,
            first,
            second,
        } => {
            assert_eq!(route, "GET /v1/looks/{id}");
            assert!(first.ends_with("/Look") && second.ends_with("/Peek"));
        }
        error => panic!("{error}"),
    }
    // The second route of one method counts too.
    let more = "get: \"/v1/peeks\" additional_bindings {get: \"/v1/looks/{id}\"}";
    let error = refused(DEPLOY, &format!("{one}{}", method("Peek", more)));
    assert!(matches!(error, Error::Twice { .. }), "{error}");
}

#[test]
fn what_no_surface_can_carry_is_refused() {
    let access = "{ option (candlefish.access.v1.access) = {role: ROLE_VIEWER}; }";
    let streams = format!("rpc Tell(stream Asked) returns (Answered) {access}");
    let error = refused(DEPLOY, &streams);
    assert!(matches!(error, Error::ClientStream(_)), "{error}");
    let method = method("Look", "get: \"/v1/looks\"");
    let error = refused("candlefish.nobody.v1", &method);
    assert!(matches!(error, Error::NoOwner(_)), "{error}");
}
