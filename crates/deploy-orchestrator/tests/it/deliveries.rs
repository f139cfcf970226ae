//! What is no push leaves a trigger as well, and says why nothing follows; what leaves none is known by its
//! delivery.

use candlefish_ids::DeliveryId;
use candlefish_proto::deploy::{
    ListTriggersRequest, ListTriggersResponse,
    trigger::{Outcome, Reason},
    trigger_service_client::TriggerServiceClient,
};
use candlefish_testkit::{github, poll_until};
use tonic::Code;

use crate::{
    api::{Answer, Api, fields},
    gateway::Gateway,
    previews::pull,
    sandbox::{SOON, Sandbox},
    stage::{REPOSITORY, Stage, commit, environment, latest, push, site},
};

#[tokio::test]
async fn a_delivery_of_any_event_leaves_a_trigger_at_every_site_of_its_repository() {
    let stage = Stage::new().await;
    site(&stage.api, "partners", REPOSITORY).await;
    for (mut example, reason) in [
        (github::create(), "not_acted_on"),
        (github::delete(), "deleted"),
        (github::release_published(), "not_acted_on"),
        (github::workflow_run_completed(), "not_acted_on"),
        (github::ping(), "not_acted_on"),
    ] {
        example.body["repository"]["full_name"] = REPOSITORY.into();
        let id = stage.gateway.receives(&example);
        let decided = stage.decided(&id, 2).await;
        for (one, place) in decided.iter().zip(["docs", "partners"]) {
            one.is("ignored", reason);
            assert_eq!((one.place.as_str(), one.deployment.as_str()), (place, ""));
            assert!(!one.message.is_empty(), "{one:?}");
        }
    }
    let events = "SELECT count(DISTINCT event) FROM trigger";
    assert_eq!(stage.sandbox.number(events).await, 5);
}

#[tokio::test]
async fn a_push_as_large_as_a_delivery_may_be_is_fetched_and_decided() {
    let stage = Stage::new().await;
    let mut large = push(0, 1);
    large.body["repository"]["description"] = "".into();
    let around = large.body.to_string().len();
    let most = 25 * 1024 * 1024;
    large.body["repository"]["description"] = "x".repeat(most - around).into();
    assert_eq!(large.body.to_string().len(), most);
    stage.pushed(&large).await.is("created", "");
}

#[tokio::test]
async fn a_push_that_cannot_be_read_says_so_at_the_sites_of_its_repository() {
    let stage = Stage::new().await;
    let mut broken = push(0, 1);
    broken.body["after"] = "no commit".into();
    let decided = stage.pushed(&broken).await;
    decided.is("ignored", "unreadable");
    assert_eq!(decided.place, "docs");
    assert!(
        decided.message.contains("after is no commit"),
        "{decided:?}"
    );
    // What comes after it is decided as ever.
    stage.pushed(&push(0, 1)).await.is("created", "");
}

#[tokio::test]
async fn a_delivery_is_found_by_its_commit_and_says_what_happened() {
    let stage = Stage::new().await;
    let number = 0xabc_def0;
    let mut run = github::workflow_run_completed();
    run.body["repository"]["full_name"] = REPOSITORY.into();
    run.body["workflow_run"]["head_sha"] = commit(number).into();
    stage.pushed(&run).await;
    stage.pushed(&push(0, number)).await.is("created", "");
    let told = async |api: &Api| {
        let triggers = api.triggers(&commit(number)).await.unwrap();
        let told = triggers.into_iter();
        told.map(|one| (one.event.clone(), one.outcome(), one.reason()))
            .collect::<Vec<_>>()
    };
    let expected = [
        ("push".to_owned(), Outcome::Created, Reason::Unspecified),
        (
            "workflow_run".to_owned(),
            Outcome::Ignored,
            Reason::NotActedOn,
        ),
    ];
    assert_eq!(told(&stage.api).await, expected);
}

#[tokio::test]
async fn everything_that_was_told_of_a_site_is_listed_to_whoever_may_see_it() {
    let stage = Stage::new().await;
    site(&stage.api, "partners", "example/partners").await;
    for mut example in [github::create(), github::delete()] {
        example.body["repository"]["full_name"] = REPOSITORY.into();
        stage.pushed(&example).await;
    }
    stage.pushed(&push(0, 1)).await.is("created", "");
    let listed = async |api: &Api, site: &str| {
        let request = api.request(ListTriggersRequest {
            site: site.to_owned(),
            ..ListTriggersRequest::default()
        });
        let mut client = TriggerServiceClient::new(api.channel.clone());
        let answer = client.list_triggers(request).await?.into_inner();
        let events = answer.triggers.into_iter().map(|one| one.event);
        Answer::Ok(events.collect::<Vec<_>>())
    };
    let all = ["push", "delete", "create"];
    assert_eq!(listed(&stage.api, "docs").await.unwrap(), all);
    let narrow = stage.api.seeing(&["partners"]);
    assert!(listed(&narrow, "docs").await.unwrap().is_empty());
    assert!(listed(&narrow, "partners").await.unwrap().is_empty());
    let status = listed(&stage.api, "").await.unwrap_err();
    assert_eq!(fields(&status), ["commit", "site", "delivery_id"]);
}

#[tokio::test]
async fn a_delivery_that_came_as_a_form_is_read_by_the_json_in_it() {
    let stage = Stage::new().await;
    let mut example = push(0, 1);
    example.body["head_commit"]["message"] = "50 % + 1 & ü".into();
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("payload", &example.body.to_string());
    let id = stage.gateway.stores("push", form.finish().into_bytes());
    stage.gateway.tells(&id);
    let decided = stage.decided(&id, 1).await.remove(0);
    decided.is("created", "");
    let waits = stage.api.deployment(&decided.deployment).await;
    assert_eq!(waits.release.unwrap().message, "50 % + 1 & ü");
}

/// A page of one trigger of the site.
async fn told(api: &Api, page_token: &str) -> ListTriggersResponse {
    let request = api.request(ListTriggersRequest {
        site: "docs".to_owned(),
        page_size: 1,
        page_token: page_token.to_owned(),
        ..ListTriggersRequest::default()
    });
    let mut client = TriggerServiceClient::new(api.channel.clone());
    client.list_triggers(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn what_is_not_decided_yet_is_told_to_whoever_asks_for_a_push() {
    let stage = Stage::new().await;
    for number in 1..=2 {
        stage.pushed(&push(0, number)).await;
    }
    assert_eq!(told(&stage.api, "").await.undecided, None);

    stage.gateway.fails(usize::MAX);
    let ids = [3, 4].map(|number| stage.gateway.receives(&push(0, number)));
    let page = poll_until(SOON, "both to have failed", async || {
        let failed = "SELECT count(*) FROM delivery WHERE done_at IS NULL AND attempts > 0";
        // First whether both failed: what is told after that knows why.
        let all = stage.sandbox.number(failed).await == 2;
        let page = told(&stage.api, "").await;
        let count = page.undecided.as_ref().map(|one| one.count);
        (all && count == Some(2)).then_some(page).ok_or(count)
    })
    .await;
    let undecided = page.undecided.unwrap();
    assert_eq!(undecided.since.unwrap().seconds, 1_790_000_000);
    let words = undecided.error;
    assert!(words.starts_with("ask the gateway: "), "{words}");
    assert!(words.contains("not now"), "{words}");
    let later = told(&stage.api, &page.next_page_token).await;
    assert_eq!(later.undecided, None);
    assert_eq!(later.triggers.len(), 1);
    // Whoever sees few sites learns that it may be among them, and no more.
    let narrow = told(&stage.api.seeing(&["docs"]), "").await;
    let narrow = narrow.undecided.unwrap();
    assert_eq!((narrow.count, &*narrow.error), (2, ""));

    stage.gateway.fails(0);
    for id in &ids {
        stage.decided(id, 1).await;
    }
    assert_eq!(told(&stage.api, "").await.undecided, None);
}

/// On the first contact the gateway is asked for all that it has.
async fn met(stage: &Stage) {
    poll_until(SOON, "the first contact to be over", async || {
        let met = "SELECT count(*) FROM inbox_upto WHERE epoch = 1";
        let met = stage.sandbox.number(met).await;
        (met == 1).then_some(()).ok_or(met)
    })
    .await;
}

#[tokio::test]
async fn what_the_gateway_stored_is_told_as_undecided_before_an_event_tells_of_it() {
    let stage = Stage::new().await;
    stage.pushed(&push(0, 1)).await;
    met(&stage).await;
    let ids = [2, 3, 4].map(|number| {
        let example = push(0, number);
        let body = example.body.to_string().into_bytes();
        stage.gateway.stores(example.event, body)
    });
    let page = told(&stage.api, "").await;
    assert_eq!(page.gateway_error, "");
    let undecided = page.undecided.unwrap();
    assert_eq!((undecided.count, &*undecided.error), (3, ""));
    assert_eq!(undecided.since.unwrap().seconds, 1_790_000_000);

    for id in &ids {
        stage.gateway.tells(id);
        stage.decided(id, 1).await;
    }
    assert_eq!(told(&stage.api, "").await.undecided, None);
}

#[tokio::test]
async fn that_the_gateway_does_not_say_what_it_stored_is_told() {
    let stage = Stage::new().await;
    for number in 1..=2 {
        stage.pushed(&push(0, number)).await;
    }
    stage.gateway.keeps_its_list(true);
    let page = told(&stage.api, "").await;
    assert_eq!((page.triggers.len(), page.undecided), (1, None));
    let words = page.gateway_error;
    assert!(words.starts_with("ask the gateway: "), "{words}");
    assert!(words.contains("no list now"), "{words}");
    let narrow = told(&stage.api.seeing(&["docs"]), "").await;
    assert_eq!(narrow.gateway_error, "ask the gateway");
    let later = told(&stage.api, &page.next_page_token).await;
    assert_eq!((later.triggers.len(), &*later.gateway_error), (1, ""));

    stage.gateway.keeps_its_list(false);
    assert_eq!(told(&stage.api, "").await.gateway_error, "");
}

#[tokio::test]
async fn a_site_where_nothing_can_be_decided_keeps_no_other_and_is_decided_once_it_can() {
    let stage = Stage::new().await;
    site(&stage.api, "partners", REPOSITORY).await;
    environment(&stage.api, "partners", "production", "main", &[], latest()).await;
    let refuses = "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                       IF NEW.site_id = (SELECT id FROM site WHERE slug = 'docs') THEN
                           RAISE 'not for docs';
                       END IF;
                       RETURN NEW;
                   END $$;
                   CREATE TRIGGER refuses BEFORE INSERT ON trigger FOR EACH ROW
                   EXECUTE FUNCTION refuses()";
    stage.sandbox.act(refuses).await;
    let mut run = github::workflow_run_completed();
    run.body["repository"]["full_name"] = REPOSITORY.into();
    let told = [
        (stage.gateway.receives(&push(0, 1)), "partners/production"),
        (stage.gateway.receives(&pull("opened", 0, 2, 1)), "partners"),
        (stage.gateway.receives(&run), "partners"),
    ];
    let mut first = Vec::new();
    for (id, place) in &told {
        let decided = poll_until(SOON, "the other site to be decided", async || {
            let decided = stage.decisions(id).await;
            (!decided.is_empty()).then_some(decided).ok_or(())
        })
        .await;
        assert_eq!(decided.len(), 1, "{decided:?}");
        assert_eq!(decided[0].place, *place);
        first.extend(decided);
    }
    let done = "SELECT count(*) FROM delivery WHERE done_at IS NOT NULL";
    assert_eq!(stage.sandbox.number(done).await, 0);
    stage.sandbox.act("DROP TRIGGER refuses ON trigger").await;
    for ((id, _), first) in told.iter().zip(first) {
        let both = stage.decided(id, 2).await;
        assert!(both[0].place.starts_with("docs"), "{both:?}");
        assert_eq!(both[1], first);
    }
    let made = "SELECT count(*) FROM deployment";
    assert_eq!(stage.sandbox.number(made).await, 2);
}

#[tokio::test]
async fn a_push_that_names_no_repository_is_told_to_whoever_sees_all_sites() {
    let stage = Stage::new().await;
    for (mut example, event) in [
        (push(0, 1), "push"),
        (pull("opened", 0, 1, 1), "pull_request"),
    ] {
        let body = example.body.as_object_mut().unwrap();
        body.remove("repository").unwrap();
        let body = example.body.to_string().into_bytes();
        let id = stage.gateway.stores(event, body);
        stage.gateway.tells(&id);
        let decided = stage.decided(&id, 1).await.remove(0);
        decided.is("ignored", "unreadable");
        assert_eq!(decided.place, "");
        let words = "missing field `repository`";
        assert!(decided.message.contains(words), "{decided:?}");

        let told = stage.api.triggers(&commit(1)).await.unwrap().remove(0);
        assert_eq!((&*told.event, told.reason()), (event, Reason::Unreadable));
        assert_eq!((&*told.site, &*told.repository), ("", ""));
        let narrow = stage.api.seeing(&["docs"]);
        assert_eq!(narrow.triggers(&commit(1)).await.unwrap(), []);
    }
    // What comes after it is decided as ever.
    stage.pushed(&push(0, 1)).await.is("created", "");
}

#[tokio::test]
async fn what_is_no_json_leaves_a_trigger_whatever_its_event() {
    let stage = Stage::new().await;
    for event in ["push", "pull_request", "workflow_run", "installation"] {
        let id = stage.gateway.stores(event, b"{\"ref\":".to_vec());
        stage.gateway.tells(&id);
        let decided = stage.decided(&id, 1).await.remove(0);
        decided.is("ignored", "unreadable");
        assert_eq!(decided.place, "");
        assert!(decided.message.contains("EOF"), "{decided:?}");
        let told = stage.api.delivered(&id).await.unwrap();
        assert_eq!(told.triggers[0].event, event);
        let delivery = told.delivery.unwrap();
        assert_eq!(delivery.note, decided.message);
    }
}

#[tokio::test]
async fn a_push_that_cannot_be_read_of_a_repository_that_no_site_has_says_the_latter() {
    let stage = Stage::new().await;
    let mut broken = push(0, 1);
    broken.body["after"] = "no commit".into();
    broken.body["repository"]["full_name"] = "example/nobody".into();
    let decided = stage.pushed(&broken).await;
    decided.is("ignored", "unknown_repository");
    assert_eq!(
        (&*decided.place, &*decided.message),
        ("", "no site has the repository example/nobody")
    );
}

#[tokio::test]
async fn what_became_of_a_delivery_is_told_by_its_id_whatever_it_was() {
    let stage = Stage::new().await;
    let pushed = stage.gateway.receives(&push(0, 1));
    stage.decided(&pushed, 1).await;
    let told = stage.api.delivered(&pushed).await.unwrap();
    assert_eq!(told.triggers.len(), 1);
    assert_eq!(told.triggers[0].delivery_id, pushed);
    let delivery = told.delivery.unwrap();
    assert_eq!((&*delivery.id, &*delivery.event), (&*pushed, "push"));
    assert_eq!(delivery.received_at.unwrap().seconds, 1_790_000_000);
    assert!(delivery.decided_at.is_some() && delivery.note.is_empty());

    let body = b"{\"action\": \"created\"}".to_vec();
    let installed = stage.gateway.stores("installation", body);
    stage.gateway.tells(&installed);
    let ran = stage.gateway.receives(&github::workflow_run_completed());
    for (id, note) in [
        (&installed, "installation names no repository"),
        (&ran, "no site has the repository octo-org/octo-repo"),
    ] {
        stage.decided(id, 0).await;
        let told = stage.api.delivered(id).await.unwrap();
        assert_eq!(told.triggers, []);
        let delivery = told.delivery.unwrap();
        assert!(delivery.decided_at.is_some(), "{delivery:?}");
        assert_eq!(delivery.note, note);
    }

    // The delivery itself is for those who see all, a trigger for those who see its site.
    for (site, id, count) in [
        ("docs", &pushed, 1),
        ("other", &pushed, 0),
        ("docs", &installed, 0),
    ] {
        let told = stage.api.seeing(&[site]).delivered(id).await.unwrap();
        assert_eq!((told.triggers.len(), told.delivery), (count, None));
    }
    let unknown = DeliveryId::new().to_string();
    let told = stage.api.delivered(&unknown).await.unwrap();
    assert_eq!((told.triggers.len(), told.delivery), (0, None));
}

#[tokio::test]
async fn a_delivery_that_is_not_decided_says_so_and_why_by_its_id() {
    let stage = Stage::new().await;
    stage.pushed(&push(0, 1)).await;
    met(&stage).await;
    let example = push(0, 2);
    let body = example.body.to_string().into_bytes();
    let id = stage.gateway.stores(example.event, body);
    let told = stage.api.delivered(&id).await.unwrap();
    let delivery = told.delivery.unwrap();
    assert_eq!((&*delivery.id, &*delivery.event), (&*id, ""));
    assert_eq!(delivery.received_at.unwrap().seconds, 1_790_000_000);
    assert_eq!((delivery.decided_at, &*delivery.note), (None, ""));

    stage.gateway.fails(usize::MAX);
    stage.gateway.tells(&id);
    let delivery = poll_until(SOON, "the first try to fail", async || {
        let told = stage.api.delivered(&id).await.unwrap();
        let delivery = told.delivery.unwrap();
        let failed = !delivery.note.is_empty();
        failed.then_some(delivery.clone()).ok_or(delivery)
    })
    .await;
    assert_eq!((&*delivery.event, delivery.decided_at), ("push", None));
    assert!(delivery.note.contains("not now"), "{delivery:?}");

    stage.gateway.fails(0);
    stage.decided(&id, 1).await;
    let told = stage.api.delivered(&id).await.unwrap();
    assert!(told.delivery.unwrap().decided_at.is_some());
}

#[tokio::test]
async fn a_delivery_is_told_on_the_first_page_of_its_triggers() {
    let stage = Stage::new().await;
    site(&stage.api, "partners", REPOSITORY).await;
    let mut example = github::create();
    example.body["repository"]["full_name"] = REPOSITORY.into();
    let id = stage.gateway.receives(&example);
    stage.decided(&id, 2).await;
    let page = async |page_token: &str| {
        let request = stage.api.request(ListTriggersRequest {
            delivery_id: id.clone(),
            page_size: 1,
            page_token: page_token.to_owned(),
            ..ListTriggersRequest::default()
        });
        let mut client = TriggerServiceClient::new(stage.api.channel.clone());
        client.list_triggers(request).await.unwrap().into_inner()
    };
    let first = page("").await;
    assert!(first.triggers.len() == 1 && first.delivery.is_some());
    let second = page(&first.next_page_token).await;
    assert_eq!((second.triggers.len(), second.delivery), (1, None));
    assert_ne!(first.triggers[0].site, second.triggers[0].site);
    assert_eq!(second.next_page_token, "");
}

#[tokio::test]
async fn a_delivery_is_named_by_its_whole_id_and_nothing_else() {
    let stage = Stage::new().await;
    let id = DeliveryId::new().to_string();
    let long = "x".repeat(100_000);
    let (part, upper) = (&id[..20], id.to_uppercase());
    let named = [
        (part, "", ""),
        (&*upper, "", ""),
        (&*long, "", ""),
        ("dep_01k8qw4f9cfk2t0v1e6m7r8x9a", "", ""),
        (&*id, "abcdef0", ""),
        (&*id, "", "docs"),
    ];
    for (delivery, commit, site) in named {
        let request = stage.api.request(ListTriggersRequest {
            delivery_id: delivery.to_owned(),
            commit: commit.to_owned(),
            site: site.to_owned(),
            ..ListTriggersRequest::default()
        });
        let mut client = TriggerServiceClient::new(stage.api.channel.clone());
        let status = client.list_triggers(request).await.unwrap_err();
        let words = format!("{delivery:.40} {commit} {site}");
        assert_eq!(status.code(), Code::InvalidArgument, "{words}");
        assert_eq!(fields(&status), ["delivery_id"], "{words}");
    }
    let status = stage.api.delivered("").await.unwrap_err();
    assert_eq!(fields(&status), ["commit", "site", "delivery_id"]);
}

#[tokio::test]
async fn while_a_gateway_is_down_what_was_missed_is_read_from_another() {
    let mut sandbox = Sandbox::with(&[("CANDLEFISH_HEAL_MS", "50")]).await;
    let gateway = Gateway::start(&sandbox.keys).await;
    // A head and several pages, one call after the other.
    for number in 1..=5 {
        gateway.receives(&push(0, number));
    }
    // Nobody listens at port 9.
    let urls = format!("http://127.0.0.1:9,{}", gateway.url);
    sandbox.set("CANDLEFISH_GATEWAY_URL", &urls);
    let _orchestrator = sandbox.start().await;
    poll_until(SOON, "the deliveries to be decided", async || {
        let done = "SELECT count(*) FROM delivery WHERE done_at IS NOT NULL";
        match sandbox.number(done).await {
            5 => Ok(()),
            some => Err(some),
        }
    })
    .await;
}
