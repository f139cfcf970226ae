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
    /// What the tree of `dir` says; without one, the tree that we are in. So does the latter of a folder
    /// that is in no git tree: content is often built elsewhere.
    pub(crate) fn find(dir: Option<&Path>, environment: &Environment) -> Result<Self, Error> {
        let home = environment.home.as_deref();
        if let Some(dir) = dir {
            let (found, is_in_tree) = Self::search(dir, home)?;
            if found.path.is_some() || is_in_tree {
                return Ok(found);
            }
        }
        Self::search(Path::new("."), home).map(|(found, _)| found)
    }

    /// Looks in `start` and above it, up to the top of the git tree; answers whether there is one. Without
    /// one it ends below the home and the root: what lies there is of no project.
    fn search(start: &Path, home: Option<&Path>) -> Result<(Self, bool), Error> {
        // A folder that does not exist is the walk's to complain about.
        let start = start.canonicalize().unwrap_or_else(|_| start.to_owned());
        let home = home.and_then(|home| home.canonicalize().ok());
        for folder in start.ancestors() {
            let is_top = folder.join(".git").exists();
            let is_shared = folder.parent().is_none() || Some(folder) == home.as_deref();
            if is_shared && !is_top && *folder != *start {
                break;
            }
            let path = folder.join(FILE);
            match fs::read_to_string(&path) {
                Ok(text) => {
                    let said = toml::from_str(&text).map_err(|source| Error::Format {
                        path: path.clone(),
                        source: Box::new(source),
                    })?;
                    let found = Self {
                        said,
                        path: Some(path),
                    };
                    return Ok((found, is_top));
                }
                Err(source) if is_absent(&source) => {}
                Err(source) => return Err(Error::Read { path, source }),
            }
            if is_top {
                return Ok((Self::default(), true));
            }
            if is_shared {
                break;
            }
        }
        Ok((Self::default(), false))
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

    fn read(start: &Path) -> Project {
        Project::search(start, None).unwrap().0
    }

    #[test]
    fn the_flag_wins_over_the_variable_and_that_over_the_file() {
        let folder = tree("site = \"docs\"\nenvironment = \"staging\"\ndir = \"a/public\"\n");
        let project = read(&folder.path().join("a/public"));
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
        let project = read(&folder.path().join("a/public"));
        assert_eq!(project.site(None, &Environment::default()), None);
    }

    #[test]
    fn a_file_in_the_home_is_of_no_project_unless_one_is_there() {
        let home = tree("site = \"docs\"\n");
        let site = |start: &Path| {
            let (found, _) = Project::search(start, Some(home.path())).unwrap();
            found.site(None, &Environment::default())
        };
        let below = home.path().join("a/public");
        assert_eq!(site(&below), None);
        assert!(site(home.path()).is_some(), "it was gone to");
        fs::create_dir(home.path().join(".git")).unwrap();
        assert!(site(&below).is_some(), "the home is a tree");
    }

    #[test]
    fn a_folder_in_a_tree_of_its_own_is_not_told_by_the_one_that_we_are_in() {
        let folder = tree("");
        fs::remove_file(folder.path().join(FILE)).unwrap();
        let public = folder.path().join("a/public");
        assert!(!Project::search(&public, None).unwrap().1);
        fs::create_dir(folder.path().join("a/.git")).unwrap();
        assert!(Project::search(&public, None).unwrap().1);
    }

    #[test]
    fn a_word_that_the_file_does_not_know_is_refused() {
        let folder = tree("sight = \"docs\"\n");
        assert!(matches!(
            Project::search(folder.path(), None),
            Err(Error::Format { .. })
        ));
    }
}
