//! Every public method, read from the descriptors by this test's own few lines: what the gateway
//! reads by itself cannot be the judge of it.

use candlefish_proto::access::Role;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use reqwest::Method;

/// One public method and its first REST mapping.
pub(crate) struct Rpc {
    /// `/candlefish.deploy.v1.SiteService/GetSite`.
    pub(crate) path: String,
    pub(crate) input: MessageDescriptor,
    pub(crate) role: Role,
    pub(crate) verb: Method,
    /// `/v1/sites/{site}`.
    template: String,
    /// The request is a JSON body.
    pub(crate) body: bool,
    /// The gateway answers it by itself.
    pub(crate) own: bool,
}

impl Rpc {
    /// The path with something in its places.
    pub(crate) fn url(&self) -> String {
        self.url_with("x1")
    }

    pub(crate) fn url_with(&self, value: &str) -> String {
        let mut url = String::new();
        for (place, piece) in self.template.split(['{', '}']).enumerate() {
            url.push_str(if place % 2 == 1 { value } else { piece });
        }
        url
    }

    pub(crate) fn template_has_fields(&self) -> bool {
        self.template.contains('{')
    }

    /// The fields that the path names.
    pub(crate) fn in_path(&self) -> Vec<&str> {
        self.template.split(['{', '}']).skip(1).step_by(2).collect()
    }
}

/// All of them.
pub(crate) fn rpcs() -> Vec<Rpc> {
    let pool = DescriptorPool::decode(candlefish_proto::DESCRIPTORS).unwrap();
    let services: Vec<_> = pool.services().collect();
    let methods = services
        .iter()
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    let rpcs: Vec<Rpc> = methods.filter_map(|method| rpc(&pool, &method)).collect();
    assert!(rpcs.len() > 30, "{}", rpcs.len());
    rpcs
}

fn rpc(pool: &DescriptorPool, method: &MethodDescriptor) -> Option<Rpc> {
    let option = |name: &str| -> DynamicMessage {
        let extension = pool.get_extension_by_name(name).unwrap();
        let options = method.options();
        options
            .get_extension(&extension)
            .as_message()
            .unwrap()
            .clone()
    };
    let access = option("candlefish.access.v1.access");
    let role = access
        .get_field_by_name("role")
        .unwrap()
        .as_enum_number()
        .unwrap();
    let role = Role::try_from(role).unwrap();
    if role == Role::Unspecified {
        return None;
    }
    let http = option("google.api.http");
    let text = |name: &str| {
        http.get_field_by_name(name)
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    };
    let verbs = ["get", "put", "post", "delete", "patch"];
    let verb = verbs
        .into_iter()
        .find(|verb| !text(verb).is_empty())
        .unwrap();
    let service = method.parent_service().full_name().to_owned();
    Some(Rpc {
        path: format!("/{service}/{}", method.name()),
        input: method.input(),
        role,
        verb: verb.to_uppercase().parse().unwrap(),
        template: text(verb),
        body: text("body") == "*",
        own: !service.starts_with("candlefish.deploy."),
    })
}
