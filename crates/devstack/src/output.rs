//! Where a process's lines go: a file of its own, or one console with a prefix per process.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};

/// Colours that are readable on dark and light ground; Postgres and NATS get grey.
const COLOURS: [u8; 6] = [36, 33, 35, 32, 34, 31];

/// Lines of a quiet process that a console remembers: more than a killed Postgres with all its
/// connections has last words.
const REMEMBERED: usize = 1_000;

/// Where a process's output goes.
#[derive(Debug, Clone)]
pub enum Output {
    /// Appended to `<folder>/<name>.log`.
    Folder(PathBuf),
    /// Line by line to standard error, each with its process's name.
    Console(Arc<Console>),
}

impl Output {
    /// Sets the command's output; what it returns starts the copying once the child runs.
    pub(crate) fn attach(&self, name: &str, command: &mut Command) -> Result<()> {
        match self {
            Self::Folder(folder) => {
                let file = open(&log_path(folder, name))?;
                command.stdout(file.try_clone()?).stderr(file);
            }
            Self::Console(_) => {
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
            }
        }
        Ok(())
    }

    pub(crate) fn follow(&self, name: &str, quiet: bool, child: &mut Child) {
        let Self::Console(console) = self else { return };
        if quiet {
            console.begin(name);
        }
        if let Some(stream) = child.stdout.take() {
            console.copy(name, quiet, stream);
        }
        if let Some(stream) = child.stderr.take() {
            console.copy(name, quiet, stream);
        }
    }

    /// The last `count` lines of a process's file. On a console those since the last start of a quiet
    /// one; nothing of the others, whose lines are there to be seen.
    pub(crate) fn tail(&self, name: &str, count: usize) -> String {
        let folder = match self {
            Self::Folder(folder) => folder,
            Self::Console(console) => return console.tail(name, count),
        };
        let text = std::fs::read(log_path(folder, name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(count);
        lines.get(from..).unwrap_or_default().join("\n")
    }

    /// The file that has every line of a process; none when they are on the console.
    pub(crate) fn log(&self, name: &str, quiet: bool) -> Option<PathBuf> {
        match self {
            Self::Folder(folder) => Some(log_path(folder, name)),
            Self::Console(console) => quiet.then(|| console.quiet_path.clone()),
        }
    }
}

fn log_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))
}

/// Standard error, shared by all processes of a stack.
#[derive(Debug)]
pub struct Console {
    colours: bool,
    width: usize,
    known: Mutex<Vec<String>>,
    /// Quiet processes (Postgres, NATS) write here instead.
    quiet: Mutex<File>,
    quiet_path: PathBuf,
    /// The last lines of each quiet process, by its name.
    tails: Mutex<BTreeMap<String, VecDeque<String>>>,
}

impl Console {
    /// `width` is that of the longest name; the lines of quiet processes go to `quiet`.
    pub fn new(width: usize, quiet: &Path) -> Result<Arc<Self>> {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Ok(Arc::new(Self {
            colours: std::io::stderr().is_terminal() && !plain,
            width,
            known: Mutex::default(),
            quiet: Mutex::new(open(quiet)?),
            quiet_path: quiet.to_owned(),
            tails: Mutex::default(),
        }))
    }

    /// One line of a process, or of ours under the name `candlefish`.
    pub fn line(&self, name: &str, text: &str) {
        let width = self.width;
        let line = if self.colours {
            let colour = self.colour(name);
            format!("\x1b[{colour}m{name:width$} │\x1b[0m {text}\n")
        } else {
            format!("{name:width$} | {text}\n")
        };
        // A closed terminal is no reason to end the services.
        drop(std::io::stderr().lock().write_all(line.as_bytes()));
    }

    fn colour(&self, name: &str) -> u8 {
        let mut known = self.known.lock().expect("no panic while naming");
        let place = known.iter().position(|other| other == name);
        let place = place.unwrap_or_else(|| {
            known.push(name.to_owned());
            known.len() - 1
        });
        COLOURS
            .get(place % COLOURS.len())
            .copied()
            .unwrap_or_default()
    }

    /// A quiet process starts: what it wrote before is of no interest any more.
    fn begin(&self, name: &str) {
        self.tails
            .lock()
            .expect("no panic while remembering")
            .remove(name);
    }

    /// One line of a quiet process.
    fn keep(&self, name: &str, text: &str) {
        {
            let mut file = self.quiet.lock().expect("no panic while writing");
            drop(writeln!(file, "{name}: {text}"));
        }
        let mut tails = self.tails.lock().expect("no panic while remembering");
        let tail = tails.entry(name.to_owned()).or_default();
        if tail.len() == REMEMBERED {
            tail.pop_front();
        }
        tail.push_back(text.to_owned());
    }

    fn tail(&self, name: &str, count: usize) -> String {
        let tails = self.tails.lock().expect("no panic while remembering");
        let Some(tail) = tails.get(name) else {
            return String::new();
        };
        let from = tail.len().saturating_sub(count);
        let lines: Vec<&str> = tail.iter().skip(from).map(String::as_str).collect();
        lines.join("\n")
    }

    fn copy(self: &Arc<Self>, name: &str, quiet: bool, stream: impl Read + Send + 'static) {
        let console = Arc::clone(self);
        let name = name.to_owned();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n') {
                let Ok(line) = line else { break };
                let text = String::from_utf8_lossy(&line);
                if quiet {
                    console.keep(&name, &text);
                } else {
                    console.line(&name, &text);
                }
            }
        });
    }
}
