//! `--dry-run` of what acts at once: the server carries the call out and takes it back, so what it says is
//! what the real call would have said.

use crate::api::Api;

/// Whether to act, or only to say what would happen.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(super) struct Dry {
    /// Only say what would happen: the server checks everything and does nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

impl Dry {
    /// The API as this command calls it.
    pub(super) fn of(self, api: &Api) -> Api {
        if self.dry_run {
            api.rehearsing()
        } else {
            api.clone()
        }
    }

    /// As it is for a command that made no call, as nothing was named to change: that only shows what is.
    pub(super) const fn when(self, acts: bool) -> Self {
        Self {
            dry_run: self.dry_run && acts,
        }
    }

    /// What the command says: what would happen, or what did.
    pub(super) fn says(self, would: String, did: impl FnOnce() -> String) -> String {
        if self.dry_run { would } else { did() }
    }
}
