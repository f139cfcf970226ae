//! Deliveries of GitHub's webhooks: GitHub's own examples, signed as it signs them.

use std::time::Duration;

use candlefish_proto::{delivery::DeliveryReceived, event::Envelope};
use candlefish_testkit::{
    OFFSET_CLOCK,
    github::{self, Example},
    poll_until,
};
use http::StatusCode;
use prost::Message;
use reqwest::Method;
use sqlx::{Executor, PgPool, Row};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

use crate::stand::{Answered, SOON, Stand};

const PATH: &str = "/v1/webhooks/github";
const SECRET: &str = "It's a Secret to Everybody";
const BEFORE: &str = "It was a Secret to Everybody";
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const MOST_BYTES: usize = 25 * 1024 * 1024;

async fn start() -> Stand {
    Stand::start_with(&[
        ("CANDLEFISH_GITHUB_WEBHOOK_SECRET", SECRET),
        ("CANDLEFISH_GITHUB_WEBHOOK_SECRET_PREVIOUS", BEFORE),
        ("CANDLEFISH_FORGET_MS", "50"),
    ])
    .await
}

/// A delivery as GitHub sends it; a test spoils one part.
struct Sent<'a> {
    event: Option<&'a str>,
    id: Option<&'a str>,
    signature: Option<String>,
    content_type: &'a str,
    body: Vec<u8>,
}

impl<'a> Sent<'a> {
    fn of(example: &'a Example, id: &'a str) -> Self {
        Self::raw(example.event, id, example.body.to_string().into_bytes())
    }

    fn raw(event: &'a str, id: &'a str, body: Vec<u8>) -> Self {
        Self {
            event: Some(event),
            id: Some(id),
            signature: Some(github::sign(SECRET, &body)),
            content_type: "application/json",
            body,
        }
    }

    async fn to(self, stand: &Stand) -> Answered {
        let mut request = stand
            .ask(Method::POST, PATH, "")
            .header("content-type", self.content_type)
            .header("user-agent", "GitHub-Hookshot/044aadd");
        let headers = [
            ("X-GitHub-Event", self.event.map(str::to_owned)),
            ("X-GitHub-Delivery", self.id.map(str::to_owned)),
            ("X-Hub-Signature-256", self.signature),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        stand.send(request.body(self.body)).await
    }
}

fn is_stored(answer: &Answered, known: bool) -> String {
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    assert_eq!(answer.body["known"], known, "{answer:?}");
    answer.body["delivery_id"].as_str().unwrap().to_owned()
}

async fn rows(pool: &PgPool) -> i64 {
    let row = pool.fetch_one("SELECT count(*) FROM delivery");
    row.await.unwrap().get(0)
}

#[tokio::test]
async fn every_published_example_is_stored_as_it_came_and_told_of() {
    let stand = start().await;
    let pool = stand.database.pool();
    let examples = github::all();
    for (place, example) in examples.iter().enumerate() {
        let guid = Uuid::new_v4().to_string();
        let answer = Sent::of(example, &guid).to(&stand).await;
        let id = is_stored(&answer, false);
        assert!(id.starts_with("dlv_"), "{id}");
        assert!(!answer.header("x-request-id").is_empty());
        let words = answer.body["message"].as_str().unwrap();
        assert_eq!(
            words.starts_with("pong"),
            example.event == "ping",
            "{words}"
        );
        let told = format!("stored: candlefish push --delivery {id} tells what becomes of it");
        assert!(example.event == "ping" || words == told, "{words}");

        let row = sqlx::query("SELECT event, body FROM delivery WHERE source_id = $1")
            .bind(&guid)
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(row.get::<String, _>(0), example.event);
        assert_eq!(
            row.get::<Vec<u8>, _>(1),
            example.body.to_string().into_bytes()
        );

        let facts = sqlx::query("SELECT envelope FROM outbox WHERE entity = $1")
            .bind(&id)
            .fetch_all(&pool)
            .await
            .unwrap();
        assert_eq!(facts.len(), 1, "{place}");
        let envelope = Envelope::decode(facts[0].get::<&[u8], _>(0)).unwrap();
        assert_eq!(envelope.r#type, "gateway.delivery.received.v1");
        let told = DeliveryReceived::decode(envelope.body.unwrap().value.as_slice()).unwrap();
        let told = told.delivery.unwrap();
        assert_eq!((told.id, told.source_id), (id, guid));
        assert_eq!(told.event, example.event);
    }
    assert_eq!(rows(&pool).await, i64::try_from(examples.len()).unwrap());
}

#[tokio::test]
async fn a_repeat_by_id_or_by_body_is_known_and_stored_once() {
    let stand = start().await;
    let pool = stand.database.pool();
    let push = github::push();
    let first = is_stored(&Sent::of(&push, "one").to(&stand).await, false);
    let again = Sent::of(&push, "one").to(&stand).await;
    assert_eq!(is_stored(&again, true), first);
    let words = again.body["message"].as_str().unwrap();
    let told = format!("; candlefish push --delivery {first} tells what becomes of it");
    assert!(
        words.starts_with("known: ") && words.ends_with(&told),
        "{words}"
    );
    // Another hook of the same repository, or somebody who sends an old body as a new event.
    assert_eq!(
        is_stored(&Sent::of(&push, "two").to(&stand).await, true),
        first
    );
    let mut renamed = Sent::of(&push, "three");
    renamed.event = Some("release");
    assert_eq!(is_stored(&renamed.to(&stand).await, true), first);
    let ping = github::ping();
    assert_eq!(
        is_stored(&Sent::of(&ping, "one").to(&stand).await, true),
        first
    );
    assert_eq!(rows(&pool).await, 1);
    let told = pool.fetch_one("SELECT count(*) FROM outbox").await.unwrap();
    assert_eq!(told.get::<i64, _>(0), 1);
}

#[tokio::test]
async fn of_many_at_once_one_is_new() {
    let stand = start().await;
    let push = github::push();
    let answers = futures_util::future::join_all((0..16).map(async |turn| {
        // Half by the same id, all with the same body.
        let id = if turn % 2 == 0 {
            "same".to_owned()
        } else {
            format!("other-{turn}")
        };
        Sent::of(&push, &id).to(&stand).await
    }))
    .await;
    let new = answers.iter().filter(|one| one.body["known"] == false);
    assert_eq!(new.count(), 1, "{answers:?}");
    for answer in &answers {
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        assert_eq!(answer.body["delivery_id"], answers[0].body["delivery_id"]);
    }
    assert_eq!(rows(&stand.database.pool()).await, 1);
}

#[tokio::test]
async fn what_cannot_be_parsed_is_stored_all_the_same() {
    let stand = start().await;
    let bodies = [&b"{\"half\":"[..], b"", b"\xff\xfe", b"payload=%7B%7D"];
    for (turn, body) in bodies.into_iter().enumerate() {
        let id = format!("odd-{turn}");
        let answer = Sent::raw("push", &id, body.to_vec()).to(&stand).await;
        is_stored(&answer, false);
    }
    let answer = Sent::raw("not_an_event_yet", "new", b"{}".to_vec());
    is_stored(&answer.to(&stand).await, false);
    assert_eq!(rows(&stand.database.pool()).await, 5);
}

#[tokio::test]
async fn a_form_is_stored_as_it_was_signed_and_a_forged_one_is_not() {
    let stand = start().await;
    let pool = stand.database.pool();
    for (turn, kind) in ["application/x-www-form-urlencoded", "text/plain"]
        .into_iter()
        .enumerate()
    {
        let body = format!("payload=%7B%22turn%22%3A+{turn}%7D").into_bytes();
        let id = format!("form-{turn}");
        let mut forged = Sent::raw("push", &id, body.clone());
        forged.content_type = kind;
        forged.signature = Some(github::sign("Nobody's Secret at all", &body));
        forged.to(&stand).await.is_problem(401);
        let mut sent = Sent::raw("push", &id, body.clone());
        sent.content_type = kind;
        is_stored(&sent.to(&stand).await, false);
        let stored: Vec<u8> = sqlx::query_scalar("SELECT body FROM delivery WHERE source_id = $1")
            .bind(&id)
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(stored, body);
    }
    assert_eq!(rows(&pool).await, 2);
}

#[tokio::test]
async fn what_is_forged_is_refused_in_words_and_not_stored() {
    let stand = start().await;
    let push = github::push();
    let body = push.body.to_string().into_bytes();
    let whole = github::sign(SECRET, &body);
    let spoiled = [
        (None, "signature-missing"),
        (Some(String::new()), "signature-malformed"),
        (Some(whole[7..].to_owned()), "signature-malformed"),
        (Some(whole[..70].to_owned()), "signature-malformed"),
        (
            Some(github::sign("Nobody's Secret at all", &body)),
            "signature-wrong",
        ),
        (Some(github::sign(SECRET, &body[1..])), "signature-wrong"),
    ];
    for (signature, reason) in spoiled {
        let mut sent = Sent::of(&push, "one");
        sent.signature = signature;
        let answer = sent.to(&stand).await;
        answer.is_problem(401);
        assert_eq!(answer.body["code"], "SIGNATURE_INVALID");
        assert_eq!(answer.body["reason"], reason);
        let words = answer.body["detail"].as_str().unwrap();
        assert!(
            words.contains("CANDLEFISH_GITHUB_WEBHOOK_SECRET"),
            "{words}"
        );
        assert!(!words.contains(SECRET), "{words}");
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with("HMAC-SHA256"), "{challenge}");
    }
    assert_eq!(rows(&stand.database.pool()).await, 0);
}

#[tokio::test]
async fn the_secret_before_is_good_while_senders_change_over() {
    let stand = start().await;
    let push = github::push();
    let mut sent = Sent::of(&push, "one");
    sent.signature = Some(github::sign(BEFORE, &sent.body));
    is_stored(&sent.to(&stand).await, false);

    let stand = Stand::start_with(&[("CANDLEFISH_GITHUB_WEBHOOK_SECRET", SECRET)]).await;
    let mut sent = Sent::of(&push, "one");
    sent.signature = Some(github::sign(BEFORE, &sent.body));
    sent.to(&stand).await.is_problem(401);
}

#[tokio::test]
async fn missing_headers_are_named_at_once() {
    let stand = start().await;
    let push = github::push();
    let mut sent = Sent::of(&push, "one");
    (sent.event, sent.id) = (None, None);
    let answer = sent.to(&stand).await;
    answer.is_problem(400);
    assert_eq!(answer.fields(), ["x-github-event", "x-github-delivery"]);

    let mut sent = Sent::of(&push, "a b");
    sent.event = Some("push");
    let answer = sent.to(&stand).await;
    answer.is_problem(400);
    assert_eq!(answer.fields(), ["x-github-delivery"]);

    let get = stand.get(PATH, "").await;
    assert_eq!(get.is_problem(405).header("allow"), "POST");
    assert_eq!(rows(&stand.database.pool()).await, 0);
}

#[tokio::test]
async fn a_body_of_the_largest_size_is_taken_and_one_byte_more_is_not() {
    let stand = start().await;
    let sent = Sent::raw("push", "large", vec![b' '; MOST_BYTES]);
    is_stored(&sent.to(&stand).await, false);
    let sent = Sent::raw("push", "larger", vec![b' '; MOST_BYTES + 1]);
    sent.to(&stand).await.is_problem(413);

    // Without a length it is found while it is read.
    let body = vec![b'x'; MOST_BYTES + 1];
    let signature = github::sign(SECRET, &body);
    let pieces: Vec<_> = body
        .chunks(1024 * 1024)
        .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()))
        .collect();
    let request = stand
        .ask(Method::POST, PATH, "")
        .header("content-type", "application/json")
        .header("X-GitHub-Event", "push")
        .header("X-GitHub-Delivery", "larger")
        .header("X-Hub-Signature-256", signature)
        .body(reqwest::Body::wrap_stream(futures_util::stream::iter(
            pieces,
        )));
    stand.send(request).await.is_problem(413);
    assert_eq!(rows(&stand.database.pool()).await, 1);
}

#[tokio::test]
async fn what_is_announced_and_does_not_come_keeps_nobody_out() {
    let stand = start().await;
    let address = stand.api.strip_prefix("http://").unwrap();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {MOST_BYTES}\r\nx-github-event: push\r\nx-github-delivery: idle\r\n\
         x-hub-signature-256: {}\r\n\r\n{{",
        github::sign(SECRET, b"")
    );
    // Together they announce four times what may be in hand.
    let mut idle = Vec::new();
    for _sender in 0..10 {
        let mut sender = TcpStream::connect(address).await.unwrap();
        sender.write_all(head.as_bytes()).await.unwrap();
        idle.push(sender);
    }
    let example = github::push();
    let sent = Sent::of(&example, "a-real-one").to(&stand);
    let answer = tokio::time::timeout(Duration::from_secs(3), sent).await;
    is_stored(&answer.expect("an answer at once"), false);
    for mut sender in idle {
        let mut answer = String::new();
        sender.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("body-not-whole"), "{answer}");
    }
}

#[tokio::test]
async fn a_delivery_that_trickles_in_is_given_up() {
    let stand = start().await;
    let address = stand.api.strip_prefix("http://").unwrap();
    let mut sender = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {MOST_BYTES}\r\nx-github-event: push\r\nx-github-delivery: slow\r\n\
         x-hub-signature-256: {}\r\n\r\n",
        github::sign(SECRET, b"")
    );
    sender.write_all(head.as_bytes()).await.unwrap();
    // Much at first, which earns it nothing.
    sender.write_all(&vec![b' '; MOST_BYTES / 2]).await.unwrap();
    let (mut answers, mut body) = sender.split();
    let trickling = async {
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        while body.write_all(b" ").await.is_ok() {
            beat.tick().await;
        }
        // It is answered, and nobody reads on.
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let answering = async {
        while !String::from_utf8_lossy(&answer).contains("body-not-whole") {
            let read = answers.read_buf(&mut answer).await.unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        }
    };
    // A call may take thirty seconds.
    let answering = tokio::time::timeout(Duration::from_secs(15), answering);
    tokio::select! {
        () = trickling => {}
        answered = answering => answered.expect("an answer long before"),
    }
}

/// How many deliveries are stored, and how many are told of.
async fn kept(pool: &PgPool) -> (i64, i64) {
    let told = pool.fetch_one("SELECT count(*) FROM outbox");
    (rows(pool).await, told.await.unwrap().get(0))
}

/// A delivery is refused: for now, with what to do, and without a trace.
async fn is_not_stored(stand: &Stand, push: &Example) {
    let answer = Sent::of(push, "one").to(stand).await;
    answer.is_problem(503);
    assert_eq!(answer.body["code"], "UNAVAILABLE");
    assert_eq!(answer.body["reason"], "not-stored");
    assert_eq!(answer.header("retry-after"), "1");
    let words = "the delivery could not be stored; deliver it again";
    assert_eq!(answer.body["detail"], words);
    assert_eq!(rows(&stand.database.pool()).await, 0);
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_for_now_and_taken_when_it_is_sent_again() {
    let stand = start().await;
    let pool = stand.database.pool();
    let push = github::push();
    // Somebody keeps the table for longer than a statement waits.
    let mut keeper = pool.begin().await.unwrap();
    let locked = keeper.execute("LOCK TABLE delivery IN EXCLUSIVE MODE");
    locked.await.unwrap();
    is_not_stored(&stand, &push).await;
    keeper.rollback().await.unwrap();
    assert_eq!(kept(&pool).await, (0, 0));
    // The row can be written, and nobody can be told of it.
    let away = "ALTER TABLE outbox RENAME TO mislaid";
    pool.execute(away).await.unwrap();
    is_not_stored(&stand, &push).await;
    let back = "ALTER TABLE mislaid RENAME TO outbox";
    pool.execute(back).await.unwrap();
    assert_eq!(kept(&pool).await, (0, 0));

    let id = is_stored(&Sent::of(&push, "one").to(&stand).await, false);
    let again = Sent::of(&push, "one").to(&stand).await;
    assert_eq!(is_stored(&again, true), id);
    assert_eq!(kept(&pool).await, (1, 1));
}

#[tokio::test]
async fn without_a_secret_nothing_is_taken_and_the_answer_says_why() {
    let stand = Stand::start().await;
    let answer = Sent::of(&github::push(), "one").to(&stand).await;
    answer.is_problem(409);
    assert_eq!(answer.body["reason"], "webhooks-not-set-up");
}

#[tokio::test]
async fn a_delivery_is_forgotten_after_30_days_and_no_sooner() {
    let stand = start().await;
    let pool = stand.database.pool();
    pool.execute(sqlx::raw_sql(OFFSET_CLOCK)).await.unwrap();
    let push = github::push();
    is_stored(&Sent::of(&push, "one").to(&stand).await, false);
    stand.database.advance(29 * DAY + 23 * HOUR).await;
    let ping = github::ping();
    is_stored(&Sent::of(&ping, "two").to(&stand).await, false);
    is_stored(&Sent::of(&push, "one").to(&stand).await, true);
    assert_eq!(rows(&pool).await, 2);
    stand.database.advance(2 * HOUR).await;
    poll_until(SOON, "the old delivery to be forgotten", async || {
        let left = rows(&pool).await;
        (left == 1)
            .then_some(())
            .ok_or_else(|| format!("{left} are left"))
    })
    .await;
    is_stored(&Sent::of(&push, "one").to(&stand).await, false);
    is_stored(&Sent::of(&ping, "two").to(&stand).await, true);
}
