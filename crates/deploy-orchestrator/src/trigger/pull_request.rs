//! Pull requests: what a delivery says of one, what it means for what is known, and what becomes of it.
//!
//! Deliveries come twice, late and in any order. GitHub's own `updated_at` orders them, and within one
//! second what each says of the other; so what is known of a pull request is what the newest of them
//! said, whichever came last.

mod decide;
mod judge;
mod read;
mod store;

pub(super) use decide::decide;
pub(super) use read::PullRequest;
