//! What ends or destroys says so and asks; or it only says so.

use crate::{
    app::App,
    error::{Error, Exit},
};

/// Whether to ask, to act without, or only to say what would happen.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Sure {
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
    /// Only say what would happen
    #[arg(long, conflicts_with = "yes")]
    pub(super) dry_run: bool,
}

impl Sure {
    /// Says what would happen, and asks. What it answers is how the command ends without acting;
    /// nothing where it is to act.
    pub(super) fn ends(&self, app: &App, question: &str) -> Result<Option<Exit>, Error> {
        if self.dry_run {
            app.output.note(question);
            app.output.note("  Nothing was done.");
            return Ok(Some(Exit::Done));
        }
        let goes_on = app.output.confirm(question, self.yes)?;
        Ok((!goes_on).then_some(Exit::Failed))
    }
}
