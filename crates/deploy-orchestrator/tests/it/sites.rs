//! Sites, environments, their hosts and their holds.

use candlefish_proto::deploy as pb;
use candlefish_testkit::wait_until;
use tonic::Code;

use crate::{
    api::{Answer, Api, fields, policy, reason},
    sandbox::{Orchestrator, SITE, SOON, Sandbox},
};

async fn started() -> (Sandbox, Orchestrator, Api) {
    let sandbox = Sandbox::new().await;
    let orchestrator = sandbox.start().await;
    let api = sandbox.api(orchestrator.running.address);
    api.create_site(SITE).await;
    (sandbox, orchestrator, api)
}

async fn make(api: &Api, slug: &str, hosts: &[&str]) -> Answer<pb::Environment> {
    let request = api.request(pb::CreateEnvironmentRequest {
        site: SITE.to_owned(),
        slug: slug.to_owned(),
        policy: Some(policy()),
        hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
        pushes: None,
    });
    Ok(api.sites().create_environment(request).await?.into_inner())
}

async fn site(api: &Api, slug: &str, repository: &str) -> Answer<pb::Site> {
    let request = api.request(pb::CreateSiteRequest {
        slug: slug.to_owned(),
        name: String::new(),
        repository: repository.to_owned(),
        ..pb::CreateSiteRequest::default()
    });
    Ok(api.sites().create_site(request).await?.into_inner())
}

#[tokio::test]
async fn a_slug_is_given_once() {
    let (sandbox, _orchestrator, api) = started().await;
    let status = site(&api, SITE, "").await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::AlreadyExists, "site-exists".to_owned())
    );
    make(&api, "staging", &[]).await.unwrap();
    let status = make(&api, "staging", &[]).await.unwrap_err();
    assert_eq!(reason(&status), "environment-exists");
    assert_eq!(sandbox.number("SELECT count(*) FROM lane").await, 1);
}

#[tokio::test]
async fn a_repository_has_an_owner_and_a_name() {
    let (_sandbox, _orchestrator, api) = started().await;
    assert_eq!(
        site(&api, "a", "acme/docs.en").await.unwrap().repository,
        "acme/docs.en"
    );
    for bad in [
        "docs",
        "acme/",
        "/docs",
        "acme/docs/en",
        "https://github.com/acme",
        "a b/c",
    ] {
        let status = site(&api, "b", bad).await.unwrap_err();
        assert_eq!(fields(&status), ["repository"], "{bad}");
    }
}

fn update(name: Option<&str>, repository: Option<&str>) -> pb::UpdateSiteRequest {
    pb::UpdateSiteRequest {
        site: SITE.to_owned(),
        name: name.map(str::to_owned),
        repository: repository.map(str::to_owned),
        previews: None,
    }
}

#[tokio::test]
async fn a_site_is_changed_in_what_is_named_and_tells_of_it() {
    let (sandbox, _orchestrator, api) = started().await;
    let get = api.request(pb::GetSiteRequest {
        site: SITE.to_owned(),
    });
    let made = api.sites().get_site(get).await.unwrap().into_inner();
    let days = |days: i64| {
        Some(prost_types::Duration {
            seconds: days * 86_400,
            nanos: 0,
        })
    };
    let off = pb::PreviewRule {
        from: pb::preview_rule::From::Off.into(),
        max_age: days(30),
    };
    assert_eq!(made.previews, Some(off));
    let change = async |request: pb::UpdateSiteRequest| {
        let answer = api.sites().update_site(api.request(request)).await?;
        Answer::Ok(answer.into_inner())
    };
    let after = change(update(Some("Documentation"), Some("acme/docs"))).await;
    let after = after.unwrap();
    assert_eq!(
        (after.name.as_str(), after.repository.as_str()),
        ("Documentation", "acme/docs")
    );
    assert_eq!(after.previews, Some(off));
    let rule = pb::PreviewRule {
        from: pb::preview_rule::From::Forks.into(),
        max_age: days(2),
    };
    let after = change(pb::UpdateSiteRequest {
        previews: Some(rule),
        ..update(None, None)
    });
    let after = after.await.unwrap();
    assert_eq!(
        (after.name.as_str(), after.previews),
        ("Documentation", Some(rule))
    );
    // An age that is not said is the default; an empty repository is none.
    let after = change(pb::UpdateSiteRequest {
        previews: Some(pb::PreviewRule::default()),
        ..update(None, Some(""))
    });
    let after = after.await.unwrap();
    assert_eq!((after.repository.as_str(), after.previews), ("", Some(off)));
    let told = "SELECT count(*) FROM outbox WHERE event_type = 'deploy.site.updated.v1'";
    assert_eq!(sandbox.number(told).await, 3);
    assert_eq!(sandbox.number("SELECT version::bigint FROM site").await, 4);
}

#[tokio::test]
async fn a_change_of_a_site_names_every_fault_and_is_made_once_under_its_key() {
    let (sandbox, _orchestrator, api) = started().await;
    let status = api
        .sites()
        .update_site(api.request(update(None, None)))
        .await
        .unwrap_err();
    assert_eq!(fields(&status), ["name"]);
    let hour = prost_types::Duration {
        seconds: 3_599,
        nanos: 0,
    };
    let wrong = pb::UpdateSiteRequest {
        previews: Some(pb::PreviewRule {
            from: 9,
            max_age: Some(hour),
        }),
        ..update(Some(&"x".repeat(101)), Some("docs"))
    };
    let status = api.sites().update_site(api.request(wrong)).await;
    let mut named = fields(&status.unwrap_err());
    named.sort_unstable();
    assert_eq!(
        named,
        ["name", "previews.from", "previews.max_age", "repository"]
    );
    let unknown = pb::UpdateSiteRequest {
        site: "nowhere".to_owned(),
        ..update(Some("x"), None)
    };
    let status = api.sites().update_site(api.request(unknown)).await;
    assert_eq!(reason(&status.unwrap_err()), "unknown-site");
    let keyed = api.keyed("rename");
    for _ in 0..2 {
        let request = keyed.request(update(Some("Docs"), None));
        let after = keyed.sites().update_site(request).await.unwrap();
        assert_eq!(after.into_inner().name, "Docs");
    }
    assert_eq!(sandbox.number("SELECT version::bigint FROM site").await, 2);
}

#[tokio::test]
async fn a_site_in_its_repository_has_one_and_a_folder_in_it() {
    let (_sandbox, _orchestrator, api) = started().await;
    let make = async |slug: &str, repository: &str, source: i32, folder: &str| {
        let request = api.request(pb::CreateSiteRequest {
            slug: slug.to_owned(),
            repository: repository.to_owned(),
            source,
            folder: folder.to_owned(),
            ..pb::CreateSiteRequest::default()
        });
        Ok::<_, tonic::Status>(api.sites().create_site(request).await?.into_inner())
    };
    let (upload, inside) = (1, 2);
    for (slug, folder, kept) in [
        ("a", "", ""),
        ("b", "docs", "docs"),
        ("c", "docs/out/", "docs/out"),
    ] {
        let made = make(slug, "acme/docs", inside, folder).await.unwrap();
        assert_eq!((made.source, made.folder.as_str()), (inside, kept));
        let request = api.request(pb::GetSiteRequest {
            site: slug.to_owned(),
        });
        assert_eq!(
            api.sites().get_site(request).await.unwrap().into_inner(),
            made
        );
    }
    let taken_away = pb::UpdateSiteRequest {
        site: "a".to_owned(),
        ..update(None, Some(""))
    };
    let refused = api.sites().update_site(api.request(taken_away)).await;
    assert_eq!(reason(&refused.unwrap_err()), "needs-repository");
    for (repository, source, folder, field) in [
        ("", inside, "docs", "repository"),
        ("acme/docs", upload, "docs", "folder"),
        ("acme/docs", 0, "docs", "folder"),
        ("acme/docs", inside, "/docs", "folder"),
        ("acme/docs", inside, "../docs", "folder"),
        ("acme/docs", inside, "docs//out", "folder"),
        ("acme/docs", inside, "/", "folder"),
        ("acme/docs", 9, "", "source"),
    ] {
        let status = make("z", repository, source, folder).await.unwrap_err();
        assert_eq!(fields(&status), [field], "{repository} {source} {folder:?}");
    }
}

#[tokio::test]
async fn every_fault_of_a_new_environment_is_named_at_once() {
    let (sandbox, _orchestrator, api) = started().await;
    let canary = pb::Canary {
        weights: vec![60, 50],
        ..pb::Canary::default()
    };
    let request = api.request(pb::CreateEnvironmentRequest {
        site: SITE.to_owned(),
        slug: "pro--duction".to_owned(),
        policy: Some(pb::Policy {
            strategy: Some(pb::Strategy {
                kind: Some(pb::strategy::Kind::Canary(canary)),
            }),
            keep_releases: 101,
            ..pb::Policy::default()
        }),
        hosts: ["docs.localhost", "docs.example.com", "docs.example.com"]
            .map(str::to_owned)
            .to_vec(),
        pushes: Some(pb::PushRule {
            branch: "refs/heads/main".to_owned(),
            paths: vec!["docs/".to_owned(), "!/drafts".to_owned(), String::new()],
        }),
    });
    let status = api.sites().create_environment(request).await.unwrap_err();
    let mut named = fields(&status);
    named.sort_unstable();
    assert_eq!(
        named,
        [
            "hosts[0]",
            "hosts[2]",
            "policy.keep_releases",
            "policy.strategy.canary.weights[1]",
            "pushes.branch",
            "pushes.paths[1]",
            "pushes.paths[2]",
            "slug",
        ]
    );
    assert_eq!(sandbox.number("SELECT count(*) FROM environment").await, 0);
}

#[tokio::test]
async fn a_host_belongs_to_one_environment_of_all_sites() {
    let (sandbox, _orchestrator, api) = started().await;
    let first = make(&api, "production", &["www.example.com", "docs.example.com"])
        .await
        .unwrap();
    assert_eq!(first.hosts, ["docs.example.com", "www.example.com"]);
    assert_eq!(first.url, "http://docs.localhost");
    let status = make(&api, "staging", &["a.example.com", "www.example.com"])
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "host-taken");
    assert_eq!(fields(&status), ["hosts[1]"]);
    assert_eq!(sandbox.number("SELECT count(*) FROM environment").await, 1);
    let second = make(&api, "staging", &["a.example.com"]).await.unwrap();
    assert_eq!(second.url, "http://staging--docs.localhost");
}

#[tokio::test]
async fn two_that_want_the_same_hosts_in_another_order_do_not_block_each_other() {
    let (sandbox, _orchestrator, api) = started().await;
    for round in 0..10 {
        let hosts = [
            format!("a{round}.example.com"),
            format!("b{round}.example.com"),
        ];
        let forth = hosts.each_ref().map(String::as_str);
        let back = [forth[1], forth[0]];
        let (one, other) = (format!("one-{round}"), format!("other-{round}"));
        let (one, other) = tokio::join!(make(&api, &one, &forth), make(&api, &other, &back));
        let ((Ok(_), Err(status)) | (Err(status), Ok(_))) = (one, other) else {
            panic!("one of two gets the hosts");
        };
        assert_eq!(reason(&status), "host-taken");
    }
    assert_eq!(sandbox.number("SELECT count(*) FROM environment").await, 10);
}

#[tokio::test]
async fn an_unknown_environment_is_answered_with_those_that_exist() {
    let (_sandbox, _orchestrator, api) = started().await;
    for slug in ["staging", "production"] {
        make(&api, slug, &[]).await.unwrap();
    }
    let status = api.hold("prod").await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(
        status.message(),
        "docs has production and staging, not \"prod\""
    );
    assert_eq!(fields(&status), ["environment"]);
}

#[tokio::test]
async fn a_site_of_others_is_not_there() {
    let (_sandbox, _orchestrator, api) = started().await;
    make(&api, "production", &[]).await.unwrap();
    let stranger = api.seeing(&["partners"]);
    let request = stranger.request(pb::GetSiteRequest {
        site: SITE.to_owned(),
    });
    let status = stranger.sites().get_site(request).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::NotFound, "unknown-site".to_owned())
    );
    // Word for word what a site that does not exist is answered with.
    let request = api.request(pb::GetSiteRequest {
        site: "nothing".to_owned(),
    });
    let none = api.sites().get_site(request).await.unwrap_err();
    assert_eq!(status.message().replace(SITE, "nothing"), none.message());
    for status in [
        stranger.hold("production").await.unwrap_err(),
        make(&stranger, "staging", &[]).await.unwrap_err(),
    ] {
        assert_eq!(reason(&status), "unknown-site");
    }
    let request = stranger.request(pb::ListSitesRequest::default());
    let seen = stranger
        .sites()
        .list_sites(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(seen.sites, []);
    assert_eq!(
        site(&stranger, "docs2", "").await.unwrap_err().code(),
        Code::PermissionDenied
    );
    assert_eq!(
        site(&stranger, "partners", "").await.unwrap().slug,
        "partners"
    );
}

#[tokio::test]
async fn sites_are_listed_by_slug_in_pages() {
    let (_sandbox, _orchestrator, api) = started().await;
    for slug in ["zebra", "api", "partners"] {
        api.create_site(slug).await;
    }
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListSitesRequest {
            page_size: 3,
            page_token,
        };
        let page = api
            .sites()
            .list_sites(api.request(request))
            .await
            .unwrap()
            .into_inner();
        seen.push(
            page.sites
                .into_iter()
                .map(|site| site.slug)
                .collect::<Vec<_>>(),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, [vec!["api", "docs", "partners"], vec!["zebra"]]);
}

#[tokio::test]
async fn a_token_of_another_list_is_refused() {
    let (_sandbox, _orchestrator, api) = started().await;
    api.create_site("partners").await;
    let request = pb::ListSitesRequest {
        page_size: 1,
        page_token: String::new(),
    };
    let page = api
        .sites()
        .list_sites(api.request(request))
        .await
        .unwrap()
        .into_inner();
    let request = pb::ListEnvironmentsRequest {
        site: SITE.to_owned(),
        page_token: page.next_page_token,
        ..pb::ListEnvironmentsRequest::default()
    };
    let status = api
        .sites()
        .list_environments(api.request(request))
        .await
        .unwrap_err();
    assert_eq!(fields(&status), ["page_token"]);
}

#[tokio::test]
async fn a_policy_is_replaced_whole_and_never_by_a_forgotten_field() {
    let (_sandbox, _orchestrator, api) = started().await;
    let made = make(&api, "production", &[]).await.unwrap();
    let update = async |policy: Option<pb::Policy>| {
        let request = pb::UpdateEnvironmentRequest {
            site: SITE.to_owned(),
            environment: "production".to_owned(),
            policy,
            pushes: None,
        };
        api.sites().update_environment(api.request(request)).await
    };
    let status = update(None).await.unwrap_err();
    assert_eq!(fields(&status), ["policy"]);
    assert_eq!(api.environment("production").await, made);
    let after = update(Some(pb::Policy {
        min_edges: 2,
        ..pb::Policy::default()
    }))
    .await;
    let after = after.unwrap().into_inner();
    let policy = after.policy.unwrap();
    assert_eq!((policy.min_edges, policy.keep_releases), (2, 10));
    assert_eq!(policy.order(), pb::policy::Order::Latest);
    assert_eq!(after.version, made.version + 1);
}

async fn replace(
    api: &Api,
    policy: Option<pb::Policy>,
    pushes: Option<pb::PushRule>,
) -> Answer<pb::Environment> {
    let request = api.request(pb::UpdateEnvironmentRequest {
        site: SITE.to_owned(),
        environment: "production".to_owned(),
        policy,
        pushes,
    });
    Ok(api.sites().update_environment(request).await?.into_inner())
}

#[tokio::test]
async fn pushes_and_policy_are_replaced_apart() {
    let (_sandbox, _orchestrator, api) = started().await;
    let made = make(&api, "production", &[]).await.unwrap();
    assert_eq!(made.pushes, Some(pb::PushRule::default()));
    let rule = pb::PushRule {
        branch: "main".to_owned(),
        paths: vec!["docs/".to_owned(), "!docs/drafts/".to_owned()],
    };
    let after = replace(&api, None, Some(rule.clone())).await.unwrap();
    assert_eq!(after.pushes, Some(rule.clone()));
    assert_eq!(after.policy, made.policy);
    let after = replace(&api, Some(pb::Policy::default()), None).await;
    let after = after.unwrap();
    assert_eq!(after.pushes, Some(rule));
    let without_branch = pb::PushRule {
        branch: String::new(),
        paths: vec!["docs/".to_owned()],
    };
    let refused = replace(&api, None, Some(without_branch)).await;
    assert_eq!(fields(&refused.unwrap_err()), ["pushes.branch"]);
    let after = replace(&api, None, Some(pb::PushRule::default())).await;
    assert_eq!(after.unwrap().pushes, Some(pb::PushRule::default()));
}

#[tokio::test]
async fn of_pushes_and_policy_that_are_replaced_at_the_same_time_both_stay() {
    let (sandbox, _orchestrator, api) = started().await;
    make(&api, "production", &[]).await.unwrap();
    let two_edges = pb::Policy {
        min_edges: 2,
        ..policy()
    };
    let rule = pb::PushRule {
        branch: "main".to_owned(),
        paths: Vec::new(),
    };
    let mut held = sandbox.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM lane FOR UPDATE")
        .execute(&mut *held)
        .await
        .unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let lets_go = async {
        wait_until(SOON, "both to wait for the lane", async || {
            sandbox.number(waiting).await == 2
        })
        .await;
        held.rollback().await.unwrap();
    };
    let (one, other, ()) = tokio::join!(
        replace(&api, Some(two_edges), None),
        replace(&api, None, Some(rule.clone())),
        lets_go
    );
    one.unwrap();
    other.unwrap();
    let after = api.environment("production").await;
    assert_eq!(after.policy.unwrap().min_edges, 2);
    assert_eq!(after.pushes, Some(rule));
}

#[tokio::test]
async fn a_hold_says_who_set_it_and_is_set_once() {
    let (sandbox, _orchestrator, api) = started().await;
    make(&api, "production", &[]).await.unwrap();
    assert_eq!(
        reason(&api.lift("production").await.unwrap_err()),
        "not-held"
    );
    let held = api.hold("production").await.unwrap().into_inner();
    let hold = held.hold.clone().unwrap();
    assert_eq!(
        (hold.by.as_str(), hold.reason.as_str()),
        ("erin", "an incident")
    );
    let status = api.hold("production").await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::FailedPrecondition, "held".to_owned())
    );
    assert!(status.message().contains("by erin since "), "{status}");
    assert_eq!(api.environment("production").await, held);
    let lifted = api.lift("production").await.unwrap().into_inner();
    assert_eq!(lifted.hold, None);

    let told = sandbox.told_of_environments().await;
    let told: Vec<_> = told
        .iter()
        .map(|(name, version, reason)| (name.as_str(), *version, reason.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("deploy.environment.created.v1", 1, ""),
            ("deploy.environment.held.v1", 2, "an incident"),
            ("deploy.environment.lifted.v1", 3, "it is over"),
        ]
    );
}

#[tokio::test]
async fn a_site_tells_the_limits_that_its_releases_are_judged_by() {
    let settings = [
        ("CANDLEFISH_RELEASE_FILES", "7"),
        ("CANDLEFISH_RELEASE_DEPTH", "99"),
        // More than a client can count to.
        ("CANDLEFISH_RELEASE_BYTES", "18446744073709551615"),
    ];
    let sandbox = Sandbox::with(&settings).await;
    let orchestrator = sandbox.start().await;
    let api = sandbox.api(orchestrator.running.address);
    let made = site(&api, "docs", "").await.unwrap();
    let limits = made.release_limits.unwrap();
    assert_eq!(
        (limits.files, limits.depth, limits.total_bytes),
        (Some(7), Some(99), Some(i64::MAX))
    );
    let request = api.request(pb::GetSiteRequest {
        site: "docs".to_owned(),
    });
    let found = api.sites().get_site(request).await.unwrap().into_inner();
    assert_eq!(found, made);
}
