//! A connection that is lost while somebody follows something: how long it is tried again, and that it
//! is told once.

use std::time::{Duration, Instant};

use crate::error::Error;

/// How long a lost connection is tried again.
const GIVE_UP: Duration = Duration::from_mins(2);
/// Pauses between two tries: a replica that stops leaves others that answer at once, one that is
/// started again needs a moment.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(1);
/// A connection that lasted so long was one; its loss is a new one.
const LASTED: Duration = Duration::from_secs(5);

/// Whether there is a connection, and since when.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    /// Since when the server is lost; nothing while it is not.
    since: Option<Instant>,
    /// When the last connection was made, unless that is known to be lost.
    made: Option<Instant>,
}

impl Outage {
    /// A connection was made. Only what it tells, or how long it lasts, shows that the outage is over.
    pub(crate) fn connects(&mut self) {
        self.made = Some(Instant::now());
    }

    /// Something was told.
    pub(crate) fn ends(&mut self) {
        self.since = None;
    }

    /// A try has failed: says whether that is news. What is no loss of the connection is given back, and
    /// so is a loss that nobody is to wait out any longer.
    pub(crate) fn goes_on(&mut self, error: Error) -> Result<bool, Error> {
        self.goes_on_at(error, Instant::now())
    }

    fn goes_on_at(&mut self, error: Error, now: Instant) -> Result<bool, Error> {
        if !matches!(error, Error::Unreachable(_)) {
            return Err(error);
        }
        let made = self.made.take();
        if made.is_some_and(|made| now.duration_since(made) > LASTED) {
            self.since = None;
        }
        match self.since {
            None => {
                self.since = Some(now);
                Ok(true)
            }
            Some(since) if now.duration_since(since) > GIVE_UP => Err(error),
            Some(_) => Ok(false),
        }
    }

    /// Pauses before the next try.
    pub(crate) async fn pause(&self) {
        let lasted = self.since.map_or(SHORTEST, |since| since.elapsed());
        tokio::time::sleep(lasted.clamp(SHORTEST, LONGEST)).await;
    }

    /// Whether the server is lost, as far as anything has shown.
    pub(crate) const fn is_on(&self) -> bool {
        self.since.is_some()
    }
}

/// What is told of it.
pub(crate) fn words(address: &str) -> String {
    format!("Lost the connection to {address}; trying again.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Again, Unreachable};

    fn lost() -> Error {
        Error::Unreachable(Unreachable {
            address: "http://one:1".to_owned(),
            why: "the connection was lost".to_owned(),
            again: Again::Harmless,
        })
    }

    #[test]
    fn an_outage_is_news_once_and_is_given_up_after_two_minutes() {
        let begun = Instant::now();
        let mut outage = Outage::default();
        let mut tried = |seconds| outage.goes_on_at(lost(), begun + Duration::from_secs(seconds));
        assert!(tried(0).unwrap());
        assert!(!tried(1).unwrap());
        assert!(!tried(120).unwrap());
        assert!(matches!(tried(121), Err(Error::Unreachable(_))));
        outage.ends();
        assert!(outage.goes_on_at(lost(), begun).unwrap());
    }

    #[test]
    fn a_connection_that_lasted_ends_an_outage_and_one_that_is_lost_at_once_does_not() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut outage = Outage::default();
        assert!(outage.goes_on_at(lost(), begun).unwrap());
        outage.made = Some(after(1));
        assert!(!outage.goes_on_at(lost(), after(2)).unwrap());
        // Another try that makes no connection.
        assert!(!outage.goes_on_at(lost(), after(20)).unwrap());
        outage.made = Some(after(21));
        assert!(outage.goes_on_at(lost(), after(200)).unwrap());
    }

    #[test]
    fn what_is_no_loss_of_the_connection_is_none() {
        let mut outage = Outage::default();
        let wrong = outage.goes_on(Error::wrong("which?", "That one."));
        assert!(matches!(wrong, Err(Error::Wrong { .. })));
        assert!(!outage.is_on());
    }
}
