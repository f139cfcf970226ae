//! Who waits until all that was known at a moment is served.

use std::collections::HashSet;

use tokio::sync::oneshot;

/// The hosts whose routes are still to be served, and who wants to know when none is.
#[derive(Debug)]
pub(super) struct Settling {
    hosts: HashSet<String>,
    tell: Option<oneshot::Sender<()>>,
}

impl Settling {
    pub(super) fn new<'a>(
        hosts: impl Iterator<Item = &'a String>,
        tell: oneshot::Sender<()>,
    ) -> Self {
        Self {
            hosts: hosts.cloned().collect(),
            tell: Some(tell),
        }
    }

    /// Leaves out the hosts that are not waited for any more, and tells when none is left. A route that
    /// came later is another one: a host is left out for good.
    pub(super) fn look(&mut self, goes_on: impl Fn(&str) -> bool) {
        self.hosts.retain(|host| goes_on(host));
        if self.hosts.is_empty()
            && let Some(tell) = self.tell.take()
        {
            // A stream that ended meanwhile does not listen.
            let _ended = tell.send(());
        }
    }

    /// Somebody still listens.
    pub(super) fn waits(&self) -> bool {
        self.tell.as_ref().is_some_and(|tell| !tell.is_closed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_every_host_was_served_or_cannot_be() {
        let (tell, mut told) = oneshot::channel();
        let hosts = ["docs.localhost", "shop.localhost"].map(str::to_owned);
        let mut settling = Settling::new(hosts.iter(), tell);
        settling.look(|_| true);
        assert!(settling.waits());
        settling.look(|host| host == "shop.localhost");
        // A newer route of a host that was served already.
        settling.look(|_| true);
        assert!(told.try_recv().is_err());
        settling.look(|host| host == "docs.localhost");
        assert_eq!(told.try_recv(), Ok(()));
        assert!(!settling.waits());
    }

    #[test]
    fn nobody_is_kept_who_does_not_listen_any_more() {
        let (tell, told) = oneshot::channel();
        let hosts = ["docs.localhost".to_owned()];
        let mut settling = Settling::new(hosts.iter(), tell);
        settling.look(|_| true);
        drop(told);
        assert!(!settling.waits());
    }
}
