//! Who speaks for a repository: the token, or the App's installation there.

use std::{collections::HashMap, fmt, sync::Arc};

use octocrab::{Octocrab, models::InstallationId};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{Error, client::GitHub, error::INSTALLATION};

/// Whose budget a call spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Account {
    Token,
    /// The App itself, which only asks where it is installed.
    App,
    Installation(u64),
}

/// As its budget's row is called.
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token => f.write_str("token"),
            Self::App => f.write_str("app"),
            Self::Installation(id) => write!(f, "installation {id}"),
        }
    }
}

/// A client and whose budget it spends.
#[derive(Clone)]
pub(super) struct Voice {
    pub(super) account: Account,
    pub(super) crab: Arc<Octocrab>,
}

/// Installations that are known, each with its one token.
#[derive(Default)]
pub(super) struct Installations {
    by_repository: Mutex<HashMap<String, u64>>,
    by_id: Mutex<HashMap<u64, Arc<Octocrab>>>,
}

#[derive(Deserialize)]
struct Found {
    id: u64,
}

impl Installations {
    /// The installation of a repository.
    pub(super) async fn voice(&self, github: &GitHub, repository: &str) -> Result<Voice, Error> {
        let key = repository.to_lowercase();
        let known = self.by_repository.lock().await.get(&key).copied();
        let id = if let Some(id) = known {
            id
        } else {
            let path = format!("/repos/{repository}/installation");
            let found: Found = github.ask_as_app(INSTALLATION, &path).await?;
            self.by_repository.lock().await.insert(key, found.id);
            found.id
        };
        let mut by_id = self.by_id.lock().await;
        if let Some(crab) = by_id.get(&id) {
            return Ok(Voice {
                account: Account::Installation(id),
                crab: Arc::clone(crab),
            });
        }
        let crab = github.root().installation(InstallationId(id));
        let crab = Arc::new(crab.map_err(|error| Error::Client(Box::new(error)))?);
        by_id.insert(id, Arc::clone(&crab));
        Ok(Voice {
            account: Account::Installation(id),
            crab,
        })
    }

    /// The App may have been installed anew since: who speaks for the repository is asked again, and,
    /// where that one may not speak at all, so is its token.
    pub(super) async fn forget(&self, repository: &str, with_token: bool) {
        let known = self
            .by_repository
            .lock()
            .await
            .remove(&repository.to_lowercase());
        if let Some(id) = known.filter(|_| with_token) {
            self.by_id.lock().await.remove(&id);
        }
    }
}
