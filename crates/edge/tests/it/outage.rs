//! What an edge does when something else is down, late or wrong.

use candlefish_manifest::digest_of;
use candlefish_testkit::wait_until;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    orchestrator::Orchestrator,
    sandbox::{HOST, SOON, Sandbox, route},
};

#[tokio::test]
async fn an_older_route_is_refused_and_a_newer_epoch_taken() {
    let (sandbox, edge, visitor, first) = Sandbox::serving(&[("index.html", "one")]).await;
    let second = sandbox.release(&[("index.html", "two")]).await;
    sandbox.apply(&edge, route(7, &[(&second, 100)])).await;
    let mut marker = route(1, &[(&first, 100)]);
    marker.host = "marker.localhost".to_owned();
    sandbox.orchestrator.send([route(6, &[(&first, 100)])]);
    // The marker comes after it on the same stream.
    sandbox.apply(&edge, marker).await;
    assert_eq!(visitor.get("/").await.text(), "two");
    assert_eq!(sandbox.heard(&edge).held[HOST], (1, 7));
    let mut restored = route(1, &[(&first, 100)]);
    restored.epoch = 2;
    sandbox.apply(&edge, restored).await;
    assert_eq!(visitor.get("/").await.text(), "one");
}

const CATCH_UP: &str = "CANDLEFISH_EDGE_CATCH_UP_MS";

#[tokio::test]
async fn an_edge_that_was_down_over_a_switch_is_not_ready_with_the_release_before() {
    let (mut sandbox, edge, _, _) = Sandbox::serving(&[("index.html", "old")]).await;
    edge.kill().await;
    sandbox.orchestrator.cut();
    let new = sandbox.release(&[("index.html", "new")]).await;
    sandbox.orchestrator.send([route(2, &[(&new, 100)])]);
    sandbox.settings.push((CATCH_UP, "600000".to_owned()));
    let again = sandbox.edge("edge-1").await;
    // It serves, to whom asks it all the same.
    let visitor = again.visitor(HOST);
    assert_eq!(visitor.get("/").await.text(), "old");
    assert_eq!(
        again.readiness.waiting()[0].why,
        "routes of the last run: waiting for what changed since"
    );
    sandbox.orchestrator.mend();
    wait_until(SOON, "readiness", async || {
        again.readiness.waiting().is_empty()
    })
    .await;
    assert_eq!(visitor.get("/").await.text(), "new");
}

#[tokio::test]
async fn a_release_that_cannot_be_staged_keeps_no_edge_from_being_ready() {
    let (mut sandbox, edge, _, _) = Sandbox::serving(&[("index.html", "old")]).await;
    edge.kill().await;
    let broken = sandbox.release(&[("index.html", "gone")]).await;
    std::fs::remove_file(sandbox.store.local_path(&digest_of(b"gone")).unwrap()).unwrap();
    sandbox.orchestrator.send([route(2, &[(&broken, 100)])]);
    sandbox.settings.push((CATCH_UP, "600000".to_owned()));
    let again = sandbox.edge("edge-1").await;
    wait_until(SOON, "readiness", async || {
        again.readiness.waiting().is_empty()
    })
    .await;
    assert_eq!(again.visitor(HOST).get("/").await.text(), "old");
}

#[tokio::test]
async fn an_edge_starts_and_serves_with_everything_else_down() {
    let site = [
        ("index.html", "home"),
        ("style.css", "css"),
        ("_redirects", "/old /"),
    ];
    let (mut sandbox, edge, visitor, release) = Sandbox::serving(&site).await;
    let gone = sandbox.release(&[("index.html", "x")]).await;
    let mut lost = route(1, &[(&gone, 100)]);
    lost.host = "lost.localhost".to_owned();
    sandbox.apply(&edge, lost).await;
    assert_eq!(visitor.get("/").await.text(), "home");
    edge.kill().await;
    sandbox.orchestrator.cut();
    // The manifest is not needed again; the content is, and of one release it is gone.
    std::fs::remove_file(sandbox.store.local_path(&release.manifest).unwrap()).unwrap();
    std::fs::remove_file(sandbox.store.local_path(&digest_of(b"x")).unwrap()).unwrap();

    sandbox.settings.push((CATCH_UP, "300".to_owned()));
    let again = sandbox.edge("edge-1").await;
    wait_until(SOON, "readiness without an orchestrator", async || {
        again.readiness.waiting().is_empty()
    })
    .await;
    let answer = again.visitor(HOST).get("/").await;
    assert_eq!(
        (answer.text(), answer.header("candlefish-release")),
        ("home", release.id.as_str())
    );
    assert_eq!(
        again.visitor(HOST).get("/old").await.header("location"),
        "/"
    );
    let lost = again.visitor("lost.localhost").get("/").await;
    assert_eq!((lost.status, lost.header("retry-after")), (503, "2"));
    assert_eq!(again.visitor("other.localhost").get("/").await.status, 404);
}

#[tokio::test]
async fn a_split_is_served_as_far_as_it_is_here_until_it_is_whole() {
    let (sandbox, edge, visitor, old) = Sandbox::serving(&[("index.html", "old")]).await;
    let new = sandbox.release(&[("index.html", "new")]).await;
    sandbox
        .apply(&edge, route(2, &[(&old, 50), (&new, 50)]))
        .await;
    let mut answer = visitor.get("/").await;
    while answer.text() == "old" {
        answer = visitor.get("/").await;
    }
    let cookie = answer.cookie().unwrap();
    let saw_new = [("cookie", cookie.as_str())];
    edge.kill().await;
    sandbox.orchestrator.cut();
    let [old_page, new_page] =
        [&b"old"[..], b"new"].map(|page| sandbox.store.local_path(&digest_of(page)).unwrap());
    for page in [&old_page, &new_page] {
        std::fs::remove_file(page).unwrap();
    }

    let again = sandbox.edge("edge-1").await;
    let visitor = again.visitor(HOST);
    assert_eq!(visitor.get("/").await.status, 503);
    // One share comes after the other.
    std::fs::write(&old_page, "old").unwrap();
    wait_until(SOON, "the older release", async || {
        visitor.get("/").await.status == 200
    })
    .await;
    for _ in 0..20 {
        let answer = visitor.get("/").await;
        assert_eq!(
            (answer.text(), answer.header("candlefish-release")),
            ("old", old.id.as_str())
        );
    }
    let kept = visitor.get_with("/", &saw_new).await;
    assert_eq!((kept.status, kept.header("retry-after")), (503, "2"));
    std::fs::write(&new_page, "new").unwrap();
    wait_until(SOON, "the newer release", async || {
        visitor.get_with("/", &saw_new).await.status == 200
    })
    .await;
    assert_eq!(visitor.get_with("/", &saw_new).await.text(), "new");
}

#[tokio::test]
async fn what_is_served_of_a_split_stays_while_nothing_of_a_newer_route_is_here() {
    let (sandbox, edge, _, old) = Sandbox::serving(&[("index.html", "old")]).await;
    let new = sandbox.release(&[("index.html", "new")]).await;
    sandbox
        .apply(&edge, route(2, &[(&old, 50), (&new, 50)]))
        .await;
    edge.kill().await;
    let page_of = |page: &[u8]| sandbox.store.local_path(&digest_of(page)).unwrap();
    std::fs::remove_file(page_of(b"new")).unwrap();
    let again = sandbox.edge("edge-1").await;
    let visitor = again.visitor(HOST);
    assert_eq!(visitor.get("/").await.text(), "old");

    let next = sandbox.release(&[("index.html", "next")]).await;
    std::fs::remove_file(page_of(b"next")).unwrap();
    let former = sandbox.release(&[("index.html", "former")]).await;
    let mut newer = route(3, &[(&next, 100)]);
    newer.assets_of = vec![former.reference()];
    sandbox.orchestrator.send([newer]);
    wait_until(SOON, "what it names besides to be staged", async || {
        let told = sandbox.heard(&again).staged.get(&former.id).cloned();
        told.is_some_and(|told| told.staged)
    })
    .await;
    let answer = visitor.get("/").await;
    assert_eq!((answer.status, answer.text()), (200, "old"));
}

#[tokio::test]
async fn a_route_that_the_power_cut_is_lost_alone_and_what_comes_later_is_kept() {
    let (mut sandbox, edge, visitor, _) = Sandbox::serving(&[("index.html", "one")]).await;
    let gone = sandbox.release(&[("index.html", "x")]).await;
    let two = sandbox.release(&[("index.html", "two")]).await;
    let three = sandbox.release(&[("index.html", "three")]).await;
    let on = |host: &str, mut route: candlefish_proto::deploy::Route| {
        route.host = host.to_owned();
        route
    };
    let lost = on("lost.localhost", route(1, &[(&gone, 100)]));
    sandbox.apply(&edge, lost).await;
    sandbox.apply(&edge, route(2, &[(&two, 100)])).await;
    sandbox.apply(&edge, route(3, &[(&three, 100)])).await;
    assert_eq!(visitor.get("/").await.text(), "three");
    edge.kill().await;
    std::fs::remove_file(sandbox.store.local_path(&digest_of(b"x")).unwrap()).unwrap();
    // The power went before the last record was written to its end.
    let later = sandbox.path("edge-1").join("routes.later");
    let bytes = std::fs::read(&later).unwrap();
    std::fs::write(&later, &bytes[..bytes.len() - 3]).unwrap();

    // This one knows no routes, so it mends nothing.
    let next = Orchestrator::start(None).await;
    let url = ("CANDLEFISH_ORCHESTRATOR_URL", next.url());
    sandbox.settings.push(url);
    let again = sandbox.edge("edge-1").await;
    assert_eq!(again.visitor(HOST).get("/").await.text(), "two");
    for (host, version, release, is_added) in
        [("other.localhost", 1, &two, false), (HOST, 4, &three, true)]
    {
        next.send([on(host, route(version, &[(release, 100)]))]);
        wait_until(SOON, "the route to be held", async || {
            next.heard("edge-1").held.get(host) == Some(&(1, version))
        })
        .await;
        // The first one after a start is written with all others, the next is added to them.
        assert_eq!(later.exists(), is_added);
    }
    again.kill().await;
    next.cut();
    let last = sandbox.edge("edge-1").await;
    assert_eq!(last.visitor(HOST).get("/").await.text(), "three");
    let other = last.visitor("other.localhost").get("/").await;
    assert_eq!(other.text(), "two");
    // Its content is gone, and its host is known.
    assert_eq!(last.visitor("lost.localhost").get("/").await.status, 503);
}

#[tokio::test]
async fn another_orchestrator_takes_over_and_hears_everything() {
    let mut sandbox = Sandbox::new().await;
    let second = Orchestrator::start(None).await;
    let urls = format!("{},{}", sandbox.orchestrator.url(), second.url());
    sandbox.settings.push(("CANDLEFISH_ORCHESTRATOR_URL", urls));
    let release = sandbox.release(&[("index.html", "one")]).await;
    let edge = sandbox.edge("edge-1").await;
    sandbox.apply(&edge, route(1, &[(&release, 100)])).await;
    sandbox.orchestrator.cut();
    wait_until(SOON, "the second to hear what is held", async || {
        let heard = second.heard("edge-1");
        heard.held.get(HOST) == Some(&(1, 1)) && heard.staged.contains_key(&release.id)
    })
    .await;
    let next = sandbox.release(&[("index.html", "two")]).await;
    second.send([route(2, &[(&next, 100)])]);
    wait_until(SOON, "the route of the second", async || {
        edge.visitor(HOST).get("/").await.text() == "two"
    })
    .await;
}

#[tokio::test]
async fn an_edge_is_heard_without_anything_new() {
    let (sandbox, edge, _, _) = Sandbox::serving(&[("index.html", "one")]).await;
    let before = sandbox.heard(&edge).messages;
    wait_until(SOON, "five more messages", async || {
        sandbox.heard(&edge).messages >= before + 5
    })
    .await;
    let heard = sandbox.heard(&edge);
    assert_eq!(
        (heard.streams, heard.address.as_str()),
        (1, edge.running.address.to_string().as_str())
    );
}

#[tokio::test]
async fn an_edge_without_routes_is_not_ready() {
    let mut sandbox = Sandbox::new().await;
    sandbox.settings.push((
        "CANDLEFISH_ORCHESTRATOR_URL",
        "http://127.0.0.1:9".to_owned(),
    ));
    let edge = sandbox.edge("edge-1").await;
    assert_eq!(
        edge.readiness.waiting()[0].why,
        "no routes yet: waiting for the orchestrator"
    );
    edge.kill().await;
    sandbox.settings.clear();
    let edge = sandbox.edge("edge-1").await;
    wait_until(SOON, "readiness", async || {
        edge.readiness.waiting().is_empty()
    })
    .await;
}

#[tokio::test]
async fn an_edge_stops_by_itself_while_visitors_linger() {
    let large = "x".repeat(3_000_000);
    let (_sandbox, edge, _, _) = Sandbox::serving(&[("large.bin", &large)]).await;
    let address = edge.running.address;
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut reading = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /large.bin HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    reading.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 1000];
    reading.read_exact(&mut first).await.unwrap();
    let stopped = async {
        assert!(
            edge.stop().await,
            "it waits for what is in hand, not for who is idle"
        );
    };
    let read = async {
        let mut rest = Vec::new();
        reading.read_to_end(&mut rest).await.unwrap();
        assert!(rest.len() + first.len() > large.len(), "the answer was cut");
        assert_eq!(idle.read(&mut [0; 10]).await.unwrap(), 0, "closed");
    };
    tokio::join!(stopped, read);
}
