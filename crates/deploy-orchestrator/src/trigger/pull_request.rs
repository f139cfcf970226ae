//! Pull requests: what a delivery says of one, what it means for what is known, and what becomes of it.
//!
//! Deliveries come twice, late and in any order. GitHub's own `updated_at` orders them, and within one
//! second what each says of the other; so what is known of a pull request is what the newest of them
//! said, whichever came last. A list of GitHub's says the same ([`seen`]) where none arrived.

mod decide;
mod judge;
mod read;
pub(crate) mod seen;
mod store;

pub(super) use decide::decide;
pub(crate) use read::Described;
pub(super) use read::PullRequest;
