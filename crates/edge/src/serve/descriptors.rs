//! Open files: each connection takes one, and one more while it reads a large file.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the process itself keeps open.
const OWN: u64 = 256;

/// Raises the soft limit as far as so many connections need and the hard limit allows: services are
/// commonly started with 1,024. Says so when that is not enough.
pub(crate) fn make_room(connections: usize) {
    let least = u64::try_from(connections)
        .unwrap_or(u64::MAX)
        .saturating_add(OWN);
    let wanted = least.saturating_mul(2);
    let now = getrlimit(Resource::Nofile);
    let possible = now.maximum.map_or(wanted, |most| most.min(wanted));
    if now.current.is_some_and(|current| current < possible) {
        let limit = Rlimit {
            current: Some(possible),
            maximum: now.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
    }
    let granted = getrlimit(Resource::Nofile).current;
    if granted.is_some_and(|granted| granted < least) {
        tracing::warn!(
            granted,
            wanted,
            "too few open files for all connections at once"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_and_never_lowered() {
        let before = getrlimit(Resource::Nofile);
        make_room(1);
        assert_eq!(getrlimit(Resource::Nofile), before);
        make_room(usize::MAX);
        let after = getrlimit(Resource::Nofile);
        assert!(
            after.maximum.is_none() || after.current == after.maximum,
            "{after:?}"
        );
    }
}
