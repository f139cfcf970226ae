//! Contexts: which API, and who calls. A file that only its owner may read.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::config::{Environment, Secret};

const FILE: &str = "contexts.toml";

/// All contexts of this machine.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that is used when nothing else is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// By name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// One API and the token for it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Its address.
    pub(crate) api: String,
    /// The token's secret.
    pub(crate) token: String,
}

/// Which API to call, as whom, and where that was said.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// The API's address.
    pub(crate) api: String,
    /// The token's secret.
    pub(crate) token: Option<Secret>,
    /// The context's name, when one was used.
    pub(crate) context: Option<String>,
    /// Whose the token is.
    pub(crate) token_of: TokenOf,
}

/// Whose the token is that goes out: what has to change where the API does not know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenOf {
    /// There is none: `CANDLEFISH_API` is set, and `CANDLEFISH_TOKEN` is not.
    Nobody,
    /// It is that of `CANDLEFISH_TOKEN`, and the API that of `CANDLEFISH_API`.
    Shell,
    /// It is that of `CANDLEFISH_TOKEN`, in place of the context's own one.
    Variable,
    /// It is this context's own one.
    Context(String),
    /// Somebody gave it just now, to be kept.
    Given,
}

/// Why there is no context.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Neither a context nor `CANDLEFISH_API`.
    #[error("this machine is not logged in")]
    None,
    /// The named one does not exist.
    #[error("there is no context {name:?}")]
    Unknown {
        /// Its name.
        name: String,
        /// Those that exist.
        known: Vec<String>,
    },
    /// No folder to keep contexts in.
    #[error("there is no folder to keep contexts in")]
    NoFolder,
    /// The file cannot be read or written.
    #[error("cannot {act} {}", .path.display())]
    File {
        /// `read` or `write`.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what `login` writes.
    #[error("{} is not a file of contexts: {why}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where, and why; nothing of what stands there.
        why: String,
    },
}

impl Contexts {
    /// Reads the file; none is no context.
    pub(crate) fn load(environment: &Environment) -> Result<Self, Error> {
        let Some(folder) = &environment.folder else {
            return Ok(Self::default());
        };
        let path = folder.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|error| Error::Format {
                path,
                why: fault(&error, &text),
            }),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(Error::File {
                act: "read",
                path,
                source,
            }),
        }
    }

    /// Writes the file whole, mode 0600; answers where it lies.
    pub(crate) fn save(&self, environment: &Environment) -> Result<PathBuf, Error> {
        let folder = environment.folder.as_ref().ok_or(Error::NoFolder)?;
        let path = folder.join(FILE);
        let text = toml::to_string(self).expect("names and texts have a TOML form");
        write_private(folder, &path, text.as_bytes()).map_err(|source| Error::File {
            act: "write",
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }

    /// A context by name.
    pub(crate) fn get(&self, name: &str) -> Result<&Context, Error> {
        self.contexts.get(name).ok_or_else(|| Error::Unknown {
            name: name.to_owned(),
            known: self.contexts.keys().cloned().collect(),
        })
    }
}

/// A context named by the flag wins over the environment, which wins over the current context.
/// A token of the environment is used with any of them but a named one.
pub(crate) fn choose(environment: &Environment, flag: Option<&str>) -> Result<Chosen, Error> {
    if flag.is_none()
        && let Some(api) = &environment.api
    {
        let token = environment.token.clone();
        let token_of = match token {
            Some(_) => TokenOf::Shell,
            None => TokenOf::Nobody,
        };
        return Ok(Chosen {
            api: api.clone(),
            token,
            context: None,
            token_of,
        });
    }
    let contexts = Contexts::load(environment)?;
    let name = flag
        .or(environment.context.as_deref())
        .or(contexts.current.as_deref())
        .ok_or(Error::None)?;
    let context = contexts.get(name)?;
    let (token, token_of) = match &environment.token {
        Some(told) if flag.is_none() => (told.clone(), TokenOf::Variable),
        _ => (
            Secret(context.token.clone()),
            TokenOf::Context(name.to_owned()),
        ),
    };
    Ok(Chosen {
        api: context.api.clone(),
        token: Some(token),
        context: Some(name.to_owned()),
        token_of,
    })
}

/// Where a file of contexts is wrong, and how. The line itself may hold a token, which the words of a
/// TOML error show, and so may a value of the wrong type, which its message quotes: neither is told.
fn fault(error: &toml::de::Error, text: &str) -> String {
    let message = error.message();
    let message = match message.split_once('"').zip(message.rsplit_once('"')) {
        Some(((before, _), (until, after))) if until.len() > before.len() => {
            format!("{before}\"…\"{after}")
        }
        _ => message.to_owned(),
    };
    let before = error.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

/// Writes beside and renames, so that a reader never sees half a file.
fn write_private(folder: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let beside = folder.join(format!("{FILE}.{}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests;
