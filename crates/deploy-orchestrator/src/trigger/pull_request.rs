//! Pull requests: what a delivery says of one, what it means for what is known, and what becomes of it.
//!
//! Deliveries come twice, late and in any order. GitHub's own `updated_at` orders them, and within one
//! second what each says of the other; so what is known of a pull request is what the newest of them
//! said, whichever came last. A list of GitHub's says the same ([`seen`]) where none arrived.
//!
//! Where a preview is to open and every environment that follows the pull request's base branch has paths,
//! its files decide as those of a push do ([`files`]); where GitHub does not say which, once it does
//! ([`unanswered`]).

mod decide;
mod files;
mod judge;
mod read;
pub(crate) mod seen;
mod store;
pub(crate) mod unanswered;

pub(super) use decide::decide;
pub(crate) use read::Described;
pub(super) use read::PullRequest;
