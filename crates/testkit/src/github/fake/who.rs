//! Who may ask what: what is the App's takes its own signature, and what is a repository's a token that is
//! good for it.

use std::collections::HashMap;

use axum::http::{HeaderMap, StatusCode, header::AUTHORIZATION};

use super::{Operation, State};

/// The number of the first installation.
const FIRST: u64 = 7;

/// Where the App is installed: at every owner that it is asked about.
#[derive(Debug, Default)]
pub(super) struct Installed {
    /// In the order in which they were asked about.
    owners: Vec<String>,
    /// The installation that each token speaks for.
    tokens: HashMap<String, u64>,
}

impl Installed {
    /// The number of an owner's installation.
    pub(super) fn at(&mut self, owner: &str) -> u64 {
        self.known(owner).unwrap_or_else(|| {
            self.owners.push(owner.to_lowercase());
            number(self.owners.len() - 1)
        })
    }

    /// A token of an installation; none where there is no such installation.
    pub(super) fn token(&mut self, installation: u64, id: u64) -> Option<String> {
        let mut numbers = (0..self.owners.len()).map(number);
        if !numbers.any(|one| one == installation) {
            return None;
        }
        let token = format!("ghs_{id}");
        self.tokens.insert(token.clone(), installation);
        Some(token)
    }

    /// Whether the App makes a call, by itself or as an installation.
    pub(super) fn is_app(&self, headers: &HeaderMap) -> bool {
        let asker = self.asker(headers);
        matches!(asker, Some(Asker::App | Asker::Installation(_)))
    }

    fn known(&self, owner: &str) -> Option<u64> {
        let owner = owner.to_lowercase();
        let place = self.owners.iter().position(|one| *one == owner);
        place.map(number)
    }

    fn asker(&self, headers: &HeaderMap) -> Option<Asker> {
        let said = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = said.split_once(' ')?;
        if !(scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token")) {
            return None;
        }
        match (token.matches('.').count(), token.starts_with("ghs_")) {
            (2, _) => Some(Asker::App),
            (_, true) => self.tokens.get(token).copied().map(Asker::Installation),
            (_, false) => Some(Asker::Person),
        }
    }
}

fn number(place: usize) -> u64 {
    FIRST + u64::try_from(place).unwrap()
}

/// Who makes a call.
#[derive(Debug, PartialEq, Eq)]
enum Asker {
    App,
    Installation(u64),
    /// Who has a token, which is good for every repository.
    Person,
}

/// Status and words for who may not make this call: the test that had it made fails when the fake goes.
pub(super) fn turned_away(
    state: &mut State,
    operation: &Operation,
    headers: &HeaderMap,
) -> Option<(StatusCode, &'static str)> {
    let is_of_app = operation.id.starts_with("apps/");
    let owner = operation.parameters.get("owner");
    let installation = owner.and_then(|owner| state.installed.known(owner));
    let refused = match (state.installed.asker(headers), is_of_app) {
        (Some(Asker::App), true) | (Some(Asker::Person), false) => return None,
        (Some(Asker::Installation(one)), false) if installation == Some(one) => return None,
        (Some(Asker::Installation(_)), false) => (StatusCode::NOT_FOUND, "Not Found"),
        (_, true) => {
            let words = "A JSON web token could not be decoded";
            (StatusCode::UNAUTHORIZED, words)
        }
        (_, false) => (StatusCode::UNAUTHORIZED, "Bad credentials"),
    };
    let (status, words) = refused;
    let fault = format!("{} for who may not: {status}, {words}", operation.id);
    state.broken.push(fault);
    Some(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(token: &str) -> HeaderMap {
        let said = format!("Bearer {token}").parse().unwrap();
        [(AUTHORIZATION, said)].into_iter().collect()
    }

    #[test]
    fn each_owner_has_an_installation_and_a_token_speaks_for_one() {
        let mut installed = Installed::default();
        let numbers = ["Example", "other", "example"].map(|owner| installed.at(owner));
        assert_eq!(numbers, [7, 8, 7]);
        assert_eq!(installed.token(9, 1), None);
        let token = installed.token(8, 2).unwrap();
        for (token, asker) in [
            (token.as_str(), Some(Asker::Installation(8))),
            ("ghs_unknown", None),
            ("ghp_secret", Some(Asker::Person)),
            ("head.claims.signature", Some(Asker::App)),
        ] {
            assert_eq!(installed.asker(&bearer(token)), asker, "{token}");
        }
    }
}
