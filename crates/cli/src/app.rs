//! What every command is given.

use clap::Args;

use crate::{
    api::Api,
    config::Environment,
    contexts::{self, Chosen},
    error::Error,
    json::{self, Layout, Shown},
    output::Output,
    repeats::Repeats,
};

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Shared {
    /// Use this context instead of the current one
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Write the result as JSON, with the fields of the REST API
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// The environment, the streams and the options of every command.
#[derive(Debug)]
pub(crate) struct App {
    /// What the environment says.
    pub(crate) environment: Environment,
    /// The streams.
    pub(crate) output: Output,
    /// Options of every command.
    pub(crate) shared: Shared,
}

impl App {
    /// Looks at the streams.
    pub(crate) fn new(environment: Environment, shared: Shared) -> Self {
        let output = Output::new(environment.plain);
        Self {
            environment,
            output,
            shared,
        }
    }

    /// Which API, as whom.
    pub(crate) fn chosen(&self) -> Result<Chosen, Error> {
        Ok(contexts::choose(
            &self.environment,
            self.shared.context.as_deref(),
        )?)
    }

    /// The API of the chosen context.
    pub(crate) fn api(&self) -> Result<Api, Error> {
        Api::new(
            &self.chosen()?,
            Repeats::new(self.environment.folder.as_ref()),
            self.output.clone(),
        )
    }

    /// Writes a result: as JSON when asked, else as the text that `render` makes of it.
    pub(crate) fn show<M: Shown>(&self, message: &M, render: impl FnOnce(&M) -> String) {
        if self.shared.json {
            self.output.result(&json::text(message, Layout::Indented));
        } else {
            self.output.result(&render(message));
        }
    }
}
