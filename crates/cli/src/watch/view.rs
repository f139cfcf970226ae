//! How a deployment that moves is shown: a block that is drawn again, one line per change, JSON, or
//! not at all.

use std::io::Write as _;

use candlefish_proto::deploy::{Deployment, Environment};
use console::Term;

use crate::{
    app::App,
    json::{self, Layout},
    output::Output,
    render::{self, Look},
};

/// One way to show a deployment that moves.
pub(crate) enum View {
    /// A block of lines on a screen, drawn again with every change and several times a second.
    Screen(Screen),
    /// One line per change on stderr.
    Lines(Option<Box<Deployment>>),
    /// One object per change on stdout; the last one that was written.
    Json(String),
    /// The result alone is asked for.
    Silent,
}

/// A block of lines at the end of a screen.
pub(crate) struct Screen {
    term: Term,
    drawn: usize,
}

impl View {
    /// The block on a terminal, else a line per change; `--json` wants the last state alone.
    pub(crate) fn new(app: &App) -> Self {
        if app.shared.json {
            Self::Silent
        } else if app.output.animates() {
            Self::Screen(Screen {
                term: Term::buffered_stderr(),
                drawn: 0,
            })
        } else {
            Self::Lines(None)
        }
    }

    /// The deployment has changed.
    pub(super) fn show(&mut self, deployment: &Deployment, output: &Output) {
        match self {
            Self::Screen(screen) => screen.draw(deployment, output.look_err()),
            Self::Lines(before) => {
                for line in
                    render::changes::lines(before.as_deref(), deployment, &output.look_err())
                {
                    output.note(&line);
                }
                *before = Some(Box::new(deployment.clone()));
            }
            Self::Json(before) => {
                let text = json::text(deployment, Layout::Line);
                // A turn of the watch need not bring another version.
                if *before != text {
                    output.result(&text);
                    *before = text;
                }
            }
            Self::Silent => {}
        }
    }

    /// The hold of its environment was set or lifted.
    pub(super) fn hold(
        &mut self,
        deployment: &Deployment,
        environment: &Environment,
        output: &Output,
    ) {
        let line = render::changes::hold(deployment, environment, &output.look_err());
        if let Some(line) = line {
            self.say(&line, output);
        }
    }

    /// Something is to be said that stays.
    pub(super) fn say(&mut self, words: &str, output: &Output) {
        if let Self::Screen(screen) = self {
            screen.lift();
        }
        output.note(words);
    }

    /// Time has passed.
    pub(super) fn turn(&mut self, deployment: &Deployment, output: &Output) {
        if let Self::Screen(screen) = self {
            screen.draw(deployment, output.look_err());
        }
    }
}

impl Screen {
    fn draw(&mut self, deployment: &Deployment, look: Look) {
        // A line that wraps takes two rows, and the block would not be drawn over itself. Where nobody
        // knows how wide the screen is, there is nothing to cut at.
        let look = Look {
            cuts: look.height.is_some(),
            ..look
        };
        let mut lines = render::deployment::live(deployment, &look);
        // What has scrolled off cannot be drawn again: the last lines are the ones that move.
        let room = look.height.unwrap_or(24).saturating_sub(2).max(1);
        lines.drain(..lines.len().saturating_sub(room));
        // Nobody can be told that the screen is gone.
        drop(self.write(&lines));
    }

    /// Takes the block away; it is drawn again below what is written now.
    fn lift(&mut self) {
        // Nobody can be told that the screen is gone.
        drop(self.write(&[]));
    }

    fn write(&mut self, lines: &[String]) -> std::io::Result<()> {
        if self.drawn > 0 {
            self.term.move_cursor_up(self.drawn)?;
        }
        for line in lines {
            self.term.clear_line()?;
            writeln!(self.term, "{line}")?;
        }
        self.term.clear_to_end_of_screen()?;
        self.drawn = lines.len();
        self.term.flush()
    }
}
