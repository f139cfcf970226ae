//! What ends or destroys says so and asks; or it only says so.

use crate::{
    api::{Act, Api},
    app::App,
    error::{Error, Exit},
    json::Shown,
};

/// How it ends without acting.
const NOTHING: &str = "  Nothing was done.";

/// Whether to ask, to act without, or only to say what would happen.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Sure {
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
    /// Only say what would happen: the server checks everything and does nothing
    #[arg(long, conflicts_with = "yes")]
    pub(super) dry_run: bool,
}

impl Sure {
    /// Says what would happen, and asks. What it answers is how the command ends without acting;
    /// nothing where it is to act. With `--dry-run` the server carries `message` out and takes it back:
    /// what it answers is the result, which `would` puts into words, and what it refuses the real call
    /// would be refused.
    pub(super) async fn decides<C: Act>(
        &self,
        app: &App,
        api: &Api,
        question: &str,
        message: &C,
        would: impl FnOnce(&C::Answer) -> String,
    ) -> Result<Option<Exit>, Error>
    where
        C::Answer: Shown,
    {
        if !self.dry_run {
            if app.output.confirm(question, self.yes)? {
                return Ok(None);
            }
            app.output.note(NOTHING);
            return Ok(Some(Exit::Failed));
        }
        app.output.note(question);
        let answer = api.rehearsing().act(message.clone()).await?;
        app.show(&answer, would);
        app.output.note(NOTHING);
        Ok(Some(Exit::Done))
    }
}
