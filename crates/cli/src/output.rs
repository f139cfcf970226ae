//! The two streams: results on stdout, everything else on stderr. The one place that writes.

use std::{
    io::{self, IsTerminal as _},
    sync::{Arc, OnceLock},
};

use console::Term;

use crate::{
    clock,
    error::{Error, Exit},
    render::Look,
};

/// Wide enough for every sketch, when nothing says how wide the reader's screen is.
const WIDTH: usize = 100;

/// Where output goes and how it may look there.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    out: Term,
    err: Term,
    /// Neither colour nor animation, whatever the streams are.
    plain: bool,
    /// A person can type.
    typing: bool,
    /// Why the first result that was lost could not be written, whichever clone wrote it.
    lost: Arc<OnceLock<io::Error>>,
}

impl Output {
    /// Looks at this process's streams; `plain` forbids colour and animation everywhere.
    pub(crate) fn new(plain: bool) -> Self {
        let typing = io::stdin().is_terminal();
        Self {
            out: Term::stdout(),
            err: Term::stderr(),
            plain,
            typing,
            lost: Arc::default(),
        }
    }

    /// Writes a result to stdout.
    pub(crate) fn result(&self, text: &str) {
        if let Err(error) = self.out.write_line(text.trim_end_matches('\n')) {
            // The first says why; those after it say no more.
            drop(self.lost.set(error));
        }
    }

    /// Whether a result could not be written: there is no use in looking for more of them.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.get().is_some()
    }

    /// How a command that went well ends: not so if its result could not be written, as on a full
    /// disk. A reader that left (`| head`) wants no more, and there is nobody to tell.
    pub(crate) fn written(&self, exit: Exit) -> Result<Exit, Error> {
        let lost = self.lost.get();
        match lost.filter(|error| error.kind() != io::ErrorKind::BrokenPipe) {
            Some(error) if matches!(exit, Exit::Done | Exit::Interrupted) => {
                Err(Error::Unwritten {
                    why: error.to_string(),
                })
            }
            _ => Ok(exit),
        }
    }

    /// Writes to stderr: what goes on, and what went wrong.
    pub(crate) fn note(&self, text: &str) {
        drop(self.err.write_line(text.trim_end_matches('\n')));
    }

    /// How results may look.
    pub(crate) fn look_out(&self) -> Look {
        self.look(&self.out)
    }

    /// How everything else may look.
    pub(crate) fn look_err(&self) -> Look {
        self.look(&self.err)
    }

    /// Whether the notes may move: a terminal that was not asked to be plain.
    pub(crate) fn animates(&self) -> bool {
        self.err.is_term() && !self.plain
    }

    /// Whether a person sees the notes, and can press Ctrl-C.
    pub(crate) fn is_seen(&self) -> bool {
        self.err.is_term()
    }

    /// Whether a person is there to answer.
    pub(crate) fn can_ask(&self) -> bool {
        self.typing && self.err.is_term()
    }

    /// Whether a person reads the results.
    pub(crate) fn is_read_by_person(&self) -> bool {
        self.out.is_term()
    }

    /// Asks for a line; `None` when there is no more to read.
    pub(crate) fn ask(&self, question: &str) -> Option<String> {
        drop(self.err.write_str(&format!("{question} ")));
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim().to_owned())
    }

    /// Asks for a line that is not shown.
    pub(crate) fn ask_secret(&self, question: &str) -> Option<String> {
        drop(self.err.write_str(&format!("{question} ")));
        let line = self.err.read_secure_line().ok()?;
        Some(line.trim().to_owned())
    }

    /// Asks before something is destroyed. `yes` answers it; a pipe without it is wrong use.
    pub(crate) fn confirm(&self, question: &str, yes: bool) -> Result<bool, Error> {
        if yes {
            return Ok(true);
        }
        if !self.can_ask() {
            return Err(Error::wrong(
                "this asks before it acts, and nobody is there to answer",
                "Say that you mean it: --yes",
            ));
        }
        let answer = self.ask(&format!("{question} [y/N]"));
        Ok(answer.is_some_and(|a| a.eq_ignore_ascii_case("y") || a.eq_ignore_ascii_case("yes")))
    }

    /// Why somebody does what needs no reason: as given, or else in one line from whoever is there,
    /// unless they are to be asked nothing. Empty where nobody says.
    pub(crate) fn reason(&self, given: String, quiet: bool) -> String {
        if !given.is_empty() || quiet || !self.can_ask() {
            return given;
        }
        self.ask("  Why? (Enter: no reason given)")
            .unwrap_or_default()
    }

    fn look(&self, term: &Term) -> Look {
        let size = if term.is_term() {
            term.size_checked()
        } else {
            None
        };
        Look {
            width: size.map_or(WIDTH, |(_, columns)| usize::from(columns)),
            height: size.map(|(rows, _)| usize::from(rows)),
            cuts: false,
            colour: term.is_term() && !self.plain,
            now: clock::now(),
        }
    }
}
