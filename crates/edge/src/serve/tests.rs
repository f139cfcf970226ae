use std::time::Duration;

use http::Request;

use super::*;
use crate::{
    release::shelf::tests::Fixture,
    route::{Route, tests::route_of},
    traffic::Traffic,
};

#[tokio::test]
async fn what_this_edge_cannot_read_is_fetched_again_and_no_fault_of_the_release() {
    let f = Fixture::new().await.distant();
    let large = "large ".repeat(50_000);
    let release = f
        .release(&[("index.html", "home"), ("large.bin", &large)])
        .await;
    let shelf = Arc::new(f.shelf());
    let staged = shelf.stage(release).await.unwrap();
    let route = Route {
        preview: false,
        ..route_of("docs.localhost", release)
    };
    let traffic = Traffic::default();
    let host = Host::of(&route, "edge-1", &shelf, &traffic);
    let table = Arc::<Table>::default();
    table.put(vec![("docs.localhost".into(), host)]);
    let contact = Arc::new(Contact::new(Duration::from_mins(5)));
    let server = Server::new(table, Arc::clone(&shelf), contact);
    let get = |path: &str| {
        let request = Request::get(path).header(header::HOST, "docs.localhost");
        request.body(()).unwrap().into_parts().0
    };
    let request = get("/");

    std::fs::write(&staged.file("").unwrap().content.identity().path, "hole").unwrap();
    assert_eq!(server.answer(&request).await.status(), 503);
    // The sample of this number tells all that counted a request.
    assert!(traffic.sample(0).is_empty());
    assert!(shelf.mend_round().await.is_some());
    assert_eq!(server.answer(&request).await.status(), 200);
    let told = traffic.sample(0).remove(0);
    assert_eq!((told.requests, told.server_errors), (1, 0));

    // One that is not held in memory is cut.
    let copy = &staged.file("large.bin").unwrap().content;
    std::fs::write(&copy.identity().path, "large").unwrap();
    assert_eq!(server.answer(&get("/large.bin")).await.status(), 503);
    assert!(shelf.mend_round().await.is_some());
    assert_eq!(server.answer(&get("/large.bin")).await.status(), 200);
}
