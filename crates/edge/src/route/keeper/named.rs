//! The releases that routes name.

use std::collections::{HashMap, hash_map::Entry};

use crate::route::{ReleaseRef, Route};

/// Each release with how many names there are for it. A host is never forgotten, so there are many more
/// routes than releases that they name.
#[derive(Debug)]
pub(super) struct Named {
    names: HashMap<ReleaseRef, usize>,
    /// There may be one here that nobody names.
    let_go: bool,
}

impl Default for Named {
    fn default() -> Self {
        Self {
            names: HashMap::new(),
            // What the last run had is not known.
            let_go: true,
        }
    }
}

impl Named {
    pub(super) fn add(&mut self, route: &Route) {
        for release in route.named() {
            *self.names.entry(release).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, route: &Route) {
        for release in route.named() {
            if let Entry::Occupied(mut names) = self.names.entry(release) {
                *names.get_mut() -= 1;
                if *names.get() == 0 {
                    names.remove();
                    self.let_go = true;
                }
            }
        }
    }

    /// A release is here now, or failed to be: it may have been let go of meanwhile.
    pub(super) fn came(&mut self, release: ReleaseRef) {
        self.let_go |= !self.names.contains_key(&release);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = ReleaseRef> {
        self.names.keys().copied()
    }

    /// Whether some may have to go since this was asked.
    pub(super) const fn take_let_go(&mut self) -> bool {
        std::mem::replace(&mut self.let_go, false)
    }
}

#[cfg(test)]
mod tests {
    use candlefish_ids::ReleaseId;
    use candlefish_manifest::Digest;

    use super::*;
    use crate::route::tests::route_of;

    #[test]
    fn a_release_is_let_go_of_with_its_last_name() {
        let release = |byte: u8| ReleaseRef {
            id: ReleaseId::new(),
            manifest: Digest::from_bytes([byte; 32]),
        };
        let (old, new) = (release(1), release(2));
        let mut named = Named::default();
        assert!(named.take_let_go(), "what the last run had is looked for");
        let (first, second) = (route_of("a.localhost", old), route_of("b.localhost", old));
        named.add(&first);
        named.add(&second);
        named.remove(&first);
        assert!(!named.take_let_go());
        assert_eq!(named.all().collect::<Vec<_>>(), [old]);
        named.add(&route_of("b.localhost", new));
        named.remove(&second);
        assert!(named.take_let_go());
        assert!(!named.take_let_go());
        assert_eq!(named.all().collect::<Vec<_>>(), [new]);
        // Staged for nobody any more.
        named.came(new);
        assert!(!named.take_let_go());
        named.came(old);
        assert!(named.take_let_go());
    }
}
