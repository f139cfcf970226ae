use candlefish_proto::deploy as pb;

use super::{Kept, LATER_BYTES, newest};
use crate::route::Route;

fn route(host: &str, epoch: i32, version: i64) -> Route {
    let sent = pb::Route {
        host: host.to_owned(),
        epoch,
        version,
        ..pb::Route::default()
    };
    Route::read(sent).unwrap()
}

#[test]
fn the_newest_route_of_each_host_is_found_wherever_it_stands() {
    let mut found = newest(vec![
        route("docs.localhost", 1, 2),
        route("shop.localhost", 1, 9),
        route("docs.localhost", 1, 3),
        route("shop.localhost", 2, 1),
        route("docs.localhost", 1, 1),
        route("shop.localhost", 1, 10),
    ]);
    found.sort_unstable_by_key(|route| route.version);
    let docs = route("docs.localhost", 1, 3);
    // A later epoch is newer, whatever the version.
    let shop = route("shop.localhost", 2, 1);
    assert_eq!(found, [docs, shop]);
}

#[test]
fn routes_are_added_until_they_take_as_much_as_all_that_were_written() {
    let takes_more = |whole, later| Kept { whole, later }.takes_more();
    // Nobody knows what is there.
    assert!(!takes_more(None, 0));
    // Few routes are not written again with every one that comes.
    assert!(takes_more(Some(0), LATER_BYTES - 1));
    assert!(!takes_more(Some(0), LATER_BYTES));
    let many = 3 * LATER_BYTES;
    assert!(takes_more(Some(many), many - 1));
    assert!(!takes_more(Some(many), many));
}
