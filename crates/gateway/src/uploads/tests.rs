use std::pin::pin;

use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::net::TcpListener;

use super::*;

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(40);

#[tokio::test]
async fn a_replica_that_only_takes_connections_is_answered_for_as_unavailable() {
    // Nobody accepts: the system takes the connections, as it does for a process that is frozen.
    let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}", frozen.local_addr().unwrap());
    let idle = Duration::from_millis(50);
    let uploads = Uploads::within(&[target.parse().unwrap()], idle).unwrap();
    let request = Request::put("/blobs/abc?size=3&signature=s")
        .body(Body::new(Full::new(Bytes::from_static(b"abc"))))
        .unwrap();
    let answered = tokio::time::timeout(SOON, uploads.answer(request)).await;
    let answer = answered.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(
        answer.headers()[header::CONTENT_TYPE],
        "application/problem+json"
    );
    assert_eq!(answer.headers()[header::RETRY_AFTER], "1");
    assert!(uploads.lately().is_none(), "it is looked for anew");
}

#[tokio::test]
async fn each_piece_of_an_upload_counts_as_it_is_taken() {
    let sent = ["a", "b", "c"].map(|piece| Ok::<_, Status>(Frame::data(Bytes::from(piece))));
    let body = Body::new(StreamBody::new(stream::iter(sent)));
    let moves = Moves::default();
    let mut pieces = pin!(pieces(body, moves.clone()));
    assert_eq!(moves.0.load(Relaxed), 0);
    for (taken, piece) in [(1, "a"), (2, "b"), (3, "c")] {
        assert_eq!(pieces.next().await.unwrap().unwrap(), piece);
        assert_eq!(moves.0.load(Relaxed), taken);
    }
    assert!(pieces.next().await.is_none());
}

#[test]
fn uploads_go_through_no_proxy() {
    // A client that would ask the environment for one says so.
    let goes = |client: &reqwest::Client| format!("{client:?}").contains("proxies");
    assert!(goes(&reqwest::Client::new()));
    assert!(!goes(&Uploads::new(&[]).unwrap().http));
}
