//! Beginning a transaction in a future that somebody may drop.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use sqlx::{PgPool, Postgres, Transaction};
use tokio::runtime::Handle;

type Begun = Result<Transaction<'static, Postgres>, sqlx::Error>;

/// Begins a transaction, and carries that to its end also where nobody waits for it any more: then it is taken
/// back at once.
///
/// The driver takes back what has begun, and forgets a `BEGIN` whose answer it was not there to hear. Its
/// connection would go back to the pool inside a transaction: whoever has it next does everything in it, and
/// nothing of that is ever committed.
pub async fn begin(pool: &PgPool) -> Begun {
    let pool = pool.clone();
    Begin(Some(Box::pin(async move { pool.begin().await }))).await
}

/// None once it has ended.
struct Begin(Option<Pin<Box<dyn Future<Output = Begun> + Send>>>);

impl Future for Begin {
    type Output = Begun;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Begun> {
        let Some(begins) = self.0.as_mut() else {
            // Nobody asks a future again that has ended.
            return Poll::Pending;
        };
        let begun = ready!(begins.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(begun)
    }
}

impl Drop for Begin {
    fn drop(&mut self) {
        if let (Some(begins), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            // The task drops what it has begun. Nobody has to wait for it: it makes no change.
            drop(runtime.spawn(begins));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use candlefish_testkit::wait_until;
    use futures_util::FutureExt as _;
    use sqlx::postgres::PgPoolOptions;

    use super::*;
    use crate::database::tests::behind_a_proxy;

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_begin_that_is_dropped_before_its_answer_leaves_no_transaction() {
        let (_proxy, through) = behind_a_proxy().await;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(SOON)
            .test_before_acquire(false)
            .connect_lazy_with(through);
        drop(pool.acquire().await.unwrap());
        wait_until(SOON, "an idle connection", async || pool.num_idle() == 1).await;
        // The proxy is of this very thread: it passes no answer on in between.
        assert!(begin(&pool).now_or_never().is_none());
        assert_eq!(pool.num_idle(), 0);
        let inside = sqlx::query("SAVEPOINT inside").execute(&pool).await;
        let refused = inside.unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("can only be used in transaction blocks"),
            "{refused}"
        );
        let transaction = begin(&pool).await.unwrap();
        transaction.commit().await.unwrap();
    }
}
