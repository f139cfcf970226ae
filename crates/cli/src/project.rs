//! Which site and environment: from the flag, the environment variable, or `candlefish.toml` in
//! the tree, in that order; and which of them it was.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::config::Environment;

/// The file's name. It is configuration, not content: a release leaves it out.
pub(crate) const FILE: &str = "candlefish.toml";

/// What the file may say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    /// The slug of the site.
    site: Option<String>,
    /// The slug of the environment.
    environment: Option<String>,
    /// The folder to deploy, from the folder of the file.
    dir: Option<PathBuf>,
}

/// The file, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Project {
    said: Said,
    /// The file itself.
    path: Option<PathBuf>,
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The value.
    pub(crate) value: String,
    /// `--site`, `CANDLEFISH_SITE`, `candlefish.toml`.
    pub(crate) from: &'static str,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Not readable.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not what it should be.
    #[error("{} may say `site`, `environment` and `dir`", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        #[source]
        source: Box<toml::de::Error>,
    },
}

impl Project {
    /// Looks in `start` and above it, up to the top of the git tree.
    pub(crate) fn find(start: &Path) -> Result<Self, Error> {
        // A folder that does not exist is the walk's to complain about.
        let start = start.canonicalize().unwrap_or_else(|_| start.to_owned());
        for folder in start.ancestors() {
            let path = folder.join(FILE);
            match fs::read_to_string(&path) {
                Ok(text) => {
                    let said = toml::from_str(&text).map_err(|source| Error::Format {
                        path: path.clone(),
                        source: Box::new(source),
                    })?;
                    return Ok(Self {
                        said,
                        path: Some(path),
                    });
                }
                Err(source) if is_absent(&source) => {}
                Err(source) => return Err(Error::Read { path, source }),
            }
            if folder.join(".git").exists() {
                break;
            }
        }
        Ok(Self::default())
    }

    /// The folder to deploy that the file names.
    pub(crate) fn dir(&self) -> Option<PathBuf> {
        let folder = self.path.as_ref()?.parent()?;
        self.said.dir.as_ref().map(|dir| folder.join(dir))
    }

    /// The site.
    pub(crate) fn site(&self, flag: Option<&str>, environment: &Environment) -> Option<Found> {
        found([
            (flag, "--site"),
            (environment.site.as_deref(), "CANDLEFISH_SITE"),
            (self.said.site.as_deref(), FILE),
        ])
    }

    /// The environment.
    pub(crate) fn environment(
        &self,
        flag: Option<&str>,
        environment: &Environment,
    ) -> Option<Found> {
        found([
            (flag, "--env"),
            (environment.environment.as_deref(), "CANDLEFISH_ENVIRONMENT"),
            (self.said.environment.as_deref(), FILE),
        ])
    }
}

fn found(places: [(Option<&str>, &'static str); 3]) -> Option<Found> {
    places.into_iter().find_map(|(value, from)| {
        Some(Found {
            value: value?.to_owned(),
            from,
        })
    })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/public")).unwrap();
        fs::write(folder.path().join(FILE), text).unwrap();
        folder
    }

    #[test]
    fn the_flag_wins_over_the_variable_and_that_over_the_file() {
        let folder = tree("site = \"docs\"\nenvironment = \"staging\"\ndir = \"a/public\"\n");
        let project = Project::find(&folder.path().join("a/public")).unwrap();
        let mut environment = Environment {
            site: Some("other".to_owned()),
            ..Environment::default()
        };
        let site = |flag, environment: &Environment| {
            project.site(flag, environment).map(|f| (f.value, f.from))
        };
        assert_eq!(
            site(Some("mine"), &environment),
            Some(("mine".to_owned(), "--site"))
        );
        assert_eq!(
            site(None, &environment),
            Some(("other".to_owned(), "CANDLEFISH_SITE"))
        );
        environment.site = None;
        assert_eq!(site(None, &environment), Some(("docs".to_owned(), FILE)));
        assert!(project.dir().unwrap().ends_with("a/public"));
    }

    #[test]
    fn a_file_above_the_git_tree_is_somebody_elses() {
        let folder = tree("site = \"docs\"\n");
        fs::create_dir(folder.path().join("a/.git")).unwrap();
        let project = Project::find(&folder.path().join("a/public")).unwrap();
        assert_eq!(project.site(None, &Environment::default()), None);
    }

    #[test]
    fn a_word_that_the_file_does_not_know_is_refused() {
        let folder = tree("sight = \"docs\"\n");
        assert!(matches!(
            Project::find(folder.path()),
            Err(Error::Format { .. })
        ));
    }
}
