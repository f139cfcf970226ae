use tonic::Status;

use super::*;
use crate::{contexts::TokenOf, error::Error};

#[test]
fn who_is_not_known_is_told_what_has_to_change() {
    let words = "this token has expired; ask an admin for a new one";
    for (token_of, next) in [
        (
            TokenOf::Nobody,
            "CANDLEFISH_API of this shell is used, and CANDLEFISH_TOKEN is not set. Set it too; or unset \
             CANDLEFISH_API, and log in: candlefish login --api URL",
        ),
        (
            TokenOf::Shell,
            "CANDLEFISH_API and CANDLEFISH_TOKEN of this shell are used. Set CANDLEFISH_TOKEN to a token \
             that works; or unset both, and log in: candlefish login --api URL",
        ),
        (
            TokenOf::Variable,
            "CANDLEFISH_TOKEN of this shell is used. Set it to a token that works, or unset it.",
        ),
        (
            TokenOf::Context("dev".to_owned()),
            "Log in: candlefish login --context dev",
        ),
        (
            TokenOf::Given,
            "Nothing was kept. Log in with another token; whoever is an admin there makes one: \
             candlefish tokens create",
        ),
    ] {
        let status = Box::new(Status::unauthenticated(words));
        let error = Error::Stranger { status, token_of };
        let expected = format!("error: {words}\n  {next}");
        assert_eq!(failure::text(&error, &look(0)), expected);
    }
}
