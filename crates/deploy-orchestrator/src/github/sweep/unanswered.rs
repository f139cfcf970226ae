//! Pull requests whose previews opened while GitHub did not say which files they change: it is asked once
//! more.

use tokio::time::Instant;

use super::{Unfinished, go_on};
use crate::{ctx::Ctx, github::GitHub, step::worker::chain, trigger::pull_request::unanswered};

/// Asked for in one sweep of a repository, those that were asked for longest ago first: others wait for the
/// sweep to end.
const AT_ONCE: i64 = 20;

/// Asks for some of a repository, until the time is over; for one at least, or where all else takes that long
/// none would ever be.
pub(super) async fn ask_again(
    ctx: &Ctx,
    github: &GitHub,
    repository: &str,
    ends: Instant,
) -> Result<(), Unfinished> {
    let mut conn = ctx.pool.acquire().await?;
    let owed = unanswered::list(&mut conn, repository, AT_ONCE).await?;
    drop(conn);
    let mut all = Ok(());
    for (place, one) in owed.into_iter().enumerate() {
        if place > 0 && Instant::now() >= ends {
            break;
        }
        let number = one.number;
        let mut conn = ctx.pool.acquire().await?;
        // Before: one that fails must not come first again.
        unanswered::note_asked(&mut conn, repository, number).await?;
        drop(conn);
        let answer = match github.changed_files(repository, number).await {
            Ok(answer) => answer,
            // It will not say.
            Err(error) if !error.is_outage() => None,
            Err(error) if error.is_of_every_call() => return Err(error.into()),
            // That a call of this alone fails keeps no other sweep.
            Err(error) => {
                tracing::info!(
                    repository, number, error = %chain(&error), last = one.is_over,
                    "the files of a pull request are still not known"
                );
                if !one.is_over {
                    continue;
                }
                None
            }
        };
        let settled = unanswered::settle(ctx, repository, number, answer).await;
        go_on(&mut all, settled.map_err(Unfinished::from))?;
    }
    all
}
