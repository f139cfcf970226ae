//! Pull requests whose previews opened while GitHub did not say which files they change: it is asked once
//! more.

use super::{Unfinished, go_on};
use crate::{ctx::Ctx, github::GitHub, step::worker::chain, trigger::pull_request::unanswered};

/// Asks for each of a repository.
pub(super) async fn ask_again(
    ctx: &Ctx,
    github: &GitHub,
    repository: &str,
) -> Result<(), Unfinished> {
    let mut conn = ctx.pool.acquire().await?;
    let numbers = unanswered::list(&mut conn, repository).await?;
    drop(conn);
    let mut all = Ok(());
    for number in numbers {
        let answer = match github.changed_files(repository, number).await {
            Ok(answer) => answer,
            // It will not say.
            Err(error) if !error.is_outage() => None,
            Err(error) if error.is_of_every_call() => return Err(error.into()),
            // That a call of this alone fails keeps no other sweep.
            Err(error) => {
                tracing::info!(
                    repository, number, error = %chain(&error),
                    "the files of a pull request are still not known"
                );
                continue;
            }
        };
        let settled = unanswered::settle(ctx, repository, number, answer).await;
        go_on(&mut all, settled.map_err(Unfinished::from))?;
    }
    all
}
