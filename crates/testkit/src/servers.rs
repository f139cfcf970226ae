//! The servers that `cargo xtask test` started.

pub(crate) fn database_url() -> String {
    named("CANDLEFISH_TEST_DATABASE_URL")
}

/// Where the tests' NATS is.
pub fn nats_url() -> String {
    named("CANDLEFISH_TEST_NATS_URL")
}

#[expect(clippy::disallowed_methods, reason = "tests have no config.rs")]
fn named(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_missing| {
        panic!("{variable} is not set: run the tests by `cargo xtask test`")
    })
}
