//! When a call may go. The row of its account says so, which all replicas share; without its word no call
//! is made. What this process was told it keeps besides: it need not ask the row, and obeys even where the
//! row could not be written.

use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep};

use super::{Call, Error, GitHub, lock};
use crate::{
    github::{
        Settings,
        budget::{Budget, Told},
        installation::Account,
        store,
    },
    step::worker::chain,
};

/// A call that may go.
#[derive(Clone, Copy)]
pub(super) struct Admitted {
    /// Whose budget it spends.
    account: Account,
    /// Limits in a row that did not say for how long, when it was let go.
    strikes: i32,
}

impl GitHub {
    /// Waits for the call's turn, unless it is far.
    pub(super) async fn admit(&self, account: Account, call: &Call<'_>) -> Result<Admitted, Error> {
        self.is_free(account)?;
        let writes = call.method != Method::GET;
        let mut budget = self.budget(account, writes).await?;
        let settings = &self.0.settings;
        // It may be one that was not taken. Who waits for longer outlives the lease of what it tells.
        if budget.turn > settings.timeout.saturating_sub(settings.write_pause) {
            budget.left = budget.left.max(Some(budget.turn));
        }
        if budget.left.is_none() && !budget.turn.is_zero() {
            sleep(budget.turn).await;
            // Meanwhile another call may have learned that GitHub wants none.
            self.is_free(account)?;
            budget = self.budget(account, false).await?;
        }
        if let Some(left) = budget.left {
            return Err(Error::Limited { left });
        }
        // Last, for after a rest the call that may go is the only one: whatever comes of it is told. Should its
        // task end before that, it is waited for as long as a call may take.
        lock(&self.0.breaker)
            .go(Instant::now(), settings.timeout * 2)
            .map_err(|left| Error::Resting { left })?;
        let strikes = budget.strikes;
        Ok(Admitted { account, strikes })
    }

    /// As far as this process knows by itself.
    fn is_free(&self, account: Account) -> Result<(), Error> {
        let now = Instant::now();
        if let Some(left) = lock(&self.0.breaker).left(now) {
            return Err(Error::Resting { left });
        }
        let free_at = lock(&self.0.told).get(&account).copied();
        match free_at.map(|free_at| free_at.saturating_duration_since(now)) {
            Some(left) if !left.is_zero() => Err(Error::Limited { left }),
            _ => Ok(()),
        }
    }

    /// Nothing is asked for so long, by this process.
    fn keep(&self, account: Account, wait: Duration) {
        let free_at = Instant::now() + wait;
        let mut known = lock(&self.0.told);
        let known = known.entry(account).or_insert(free_at);
        // A shorter one does not end a longer one.
        *known = free_at.max(*known);
    }

    /// What the row says; a call that writes takes its turn.
    async fn budget(&self, account: Account, writes: bool) -> Result<Budget, Error> {
        let asked = async {
            let mut conn = self.0.pool.acquire().await?;
            if writes {
                let Settings {
                    write_pause,
                    timeout,
                    ..
                } = self.0.settings;
                store::take_turn(&mut conn, account, write_pause, timeout).await
            } else {
                store::find_budget(&mut conn, account).await
            }
        };
        asked.await.map_err(Error::Budget)
    }

    /// Takes note of what an answer says of limits: how long nothing may be asked, where it does. Most
    /// answers say nothing new, and nothing is written.
    pub(super) async fn note(&self, admitted: Admitted, told: Told) -> Option<Duration> {
        let Admitted { account, strikes } = admitted;
        let (wait, now_strikes) = told.after(strikes);
        if wait.is_none() && now_strikes == strikes {
            return None;
        }
        if let Some(wait) = wait {
            self.keep(account, wait);
        }
        let saved = async {
            let mut conn = self.0.pool.acquire().await?;
            store::save_budget(&mut conn, account, wait, now_strikes).await
        };
        match saved.await {
            Ok(left) => left.max(wait),
            Err(error) => {
                tracing::warn!(
                    %account, error = %chain(&error),
                    "GitHub's limit is not written down: other replicas do not know of it"
                );
                wait
            }
        }
    }
}
