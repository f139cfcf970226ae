//! Who may ask what: what is the App's takes its own signature, and what is a repository's a token that is
//! good for it.

use std::collections::HashMap;

use axum::http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation};
use serde_json::Value;

use super::{Fake, Operation, State, key, seconds};

/// The number of the App.
pub const APP_ID: u64 = 1;
/// The number of the first installation.
const FIRST: u64 = 7;
/// Seconds from now, by GitHub's clock, by which a token of the App's ends at the latest.
const LONGEST: i64 = 600;
/// Seconds by which the App's clock may be ahead.
const AHEAD: i64 = 60;

// As GitHub words it.
const UNKNOWN: &str = "Bad credentials";
const UNREADABLE: &str = "A JSON web token could not be decoded";
const NOT_YET: &str = "'Issued at' claim ('iat') must be an Integer representing the time that \
                       the assertion was issued";
const OVER: &str = "'Expiration time' claim ('exp') must be a numeric value representing the \
                    future time at which the assertion expires";
const LONG: &str = "'Expiration time' claim ('exp') is too far in the future";

impl Fake {
    /// An App of the number [`APP_ID`] asks from now on, with no key but the one that this answers: the
    /// private half, PEM. Without this nobody asks as an App.
    pub fn app_key(&self) -> String {
        let (private, public) = key::generate();
        self.with(|state| state.installed.key = Some(public));
        private
    }
}

/// Where the App is installed: at every owner that it is asked about.
#[derive(Debug, Default)]
pub(super) struct Installed {
    /// What the App's own tokens are signed with; none while there is no App.
    key: Option<DecodingKey>,
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
        let asker = self.asker(headers, seconds());
        matches!(asker, Ok(Asker::App | Asker::Installation(_)))
    }

    fn known(&self, owner: &str) -> Option<u64> {
        let owner = owner.to_lowercase();
        let place = self.owners.iter().position(|one| *one == owner);
        place.map(number)
    }

    /// Who makes a call, or what GitHub says to one who is nobody.
    fn asker(&self, headers: &HeaderMap, now: i64) -> Result<Asker, &'static str> {
        let said = headers.get(AUTHORIZATION).and_then(|one| one.to_str().ok());
        let (scheme, token) = said.and_then(|one| one.split_once(' ')).ok_or(UNKNOWN)?;
        if !(scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token")) {
            return Err(UNKNOWN);
        }
        if token.matches('.').count() == 2 {
            let key = self.key.as_ref().ok_or(UNREADABLE)?;
            return proven(key, token, now).map(|()| Asker::App);
        }
        if !token.starts_with("ghs_") {
            return Ok(Asker::Person);
        }
        let installation = self.tokens.get(token).copied();
        installation.map(Asker::Installation).ok_or(UNKNOWN)
    }
}

/// Whether a token is the App's own, by what GitHub documents of it; what GitHub says where it is not.
fn proven(key: &DecodingKey, token: &str, now: i64) -> Result<(), &'static str> {
    let mut rules = Validation::new(Algorithm::RS256);
    // What is claimed is judged here: GitHub takes an issuer that is a number, and gives no leeway.
    rules.required_spec_claims.clear();
    rules.validate_exp = false;
    let read = jsonwebtoken::decode(token, key, &rules);
    let read: TokenData<Value> = read.map_err(|_error| UNREADABLE)?;
    let claims = read.claims;
    let issuer = &claims["iss"];
    if !(*issuer == APP_ID || issuer.as_str() == Some(&*APP_ID.to_string())) {
        return Err(UNREADABLE);
    }
    if claims["iat"].as_i64().is_none_or(|iat| iat > now + AHEAD) {
        return Err(NOT_YET);
    }
    match claims["exp"].as_i64() {
        Some(exp) if exp > now + LONGEST => Err(LONG),
        Some(exp) if exp > now => Ok(()),
        _ => Err(OVER),
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
    let refused = match (state.installed.asker(headers, seconds()), is_of_app) {
        (Ok(Asker::App), true) | (Ok(Asker::Person), false) => return None,
        (Ok(Asker::Installation(one)), false) if installation == Some(one) => return None,
        (Ok(Asker::Installation(_)), false) => (StatusCode::NOT_FOUND, "Not Found"),
        (Ok(_), true) => (StatusCode::UNAUTHORIZED, UNREADABLE),
        (Ok(Asker::App), false) => (StatusCode::UNAUTHORIZED, UNKNOWN),
        (Err(words), _) => (StatusCode::UNAUTHORIZED, words),
    };
    let (status, words) = refused;
    let fault = format!("{} for who may not: {status}, {words}", operation.id);
    state.broken.push(fault);
    Some(refused)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::*;

    fn bearer(token: &str) -> HeaderMap {
        let said = format!("Bearer {token}").parse().unwrap();
        [(AUTHORIZATION, said)].into_iter().collect()
    }

    fn signed(pem: &str, algorithm: Algorithm, claims: &Value) -> String {
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
        jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
    }

    #[test]
    fn each_owner_has_an_installation_and_a_token_speaks_for_one() {
        let mut installed = Installed::default();
        let numbers = ["Example", "other", "example"].map(|owner| installed.at(owner));
        assert_eq!(numbers, [7, 8, 7]);
        assert_eq!(installed.token(9, 1), None);
        let token = installed.token(8, 2).unwrap();
        for (token, asker) in [
            (token.as_str(), Ok(Asker::Installation(8))),
            ("ghs_unknown", Err(UNKNOWN)),
            ("ghp_secret", Ok(Asker::Person)),
            // There is no App.
            ("head.claims.signature", Err(UNREADABLE)),
        ] {
            assert_eq!(installed.asker(&bearer(token), 0), asker, "{token}");
        }
    }

    #[test]
    fn a_token_is_the_app_s_by_its_key_its_number_and_its_time() {
        const NOW: i64 = 1_790_000_000;
        let (own, public) = key::generate();
        let (other, _) = key::generate();
        let installed = Installed {
            key: Some(public),
            ..Installed::default()
        };
        let claims = |iss: Value, iat: i64, exp: i64| {
            let (iat, exp) = (NOW + iat, NOW + exp);
            json!({"iss": iss, "iat": iat, "exp": exp})
        };
        let (rs256, rs512) = (Algorithm::RS256, Algorithm::RS512);
        for (key, algorithm, claims, asker) in [
            (&own, rs256, claims(json!(1), -60, 540), Ok(Asker::App)),
            (&own, rs256, claims(json!("1"), 60, 600), Ok(Asker::App)),
            (&other, rs256, claims(json!(1), 0, 540), Err(UNREADABLE)),
            (&own, rs512, claims(json!(1), 0, 540), Err(UNREADABLE)),
            (&own, rs256, claims(json!(2), 0, 540), Err(UNREADABLE)),
            (&own, rs256, claims(json!("01"), 0, 540), Err(UNREADABLE)),
            (&own, rs256, claims(Value::Null, 0, 540), Err(UNREADABLE)),
            (&own, rs256, claims(json!(1), 61, 540), Err(NOT_YET)),
            (&own, rs256, claims(json!(1), -600, 0), Err(OVER)),
            (&own, rs256, claims(json!(1), 0, 601), Err(LONG)),
            (&own, rs256, json!({"iss": 1, "exp": NOW + 9}), Err(NOT_YET)),
            (&own, rs256, json!({"iss": 1, "iat": NOW}), Err(OVER)),
        ] {
            let token = signed(key, algorithm, &claims);
            let found = installed.asker(&bearer(&token), NOW);
            assert_eq!(found, asker, "{claims} by {algorithm:?}");
        }
    }

    #[tokio::test]
    async fn who_is_not_the_app_is_answered_401_in_github_s_words_and_fails_the_test() {
        let fake = Fake::start().await;
        let own = fake.app_key();
        let (other, _) = key::generate();
        let now = seconds();
        let claims = |iss: u64, exp: i64| json!({"iss": iss, "iat": now - 60, "exp": now + exp});
        let ask = async |token: String| {
            let url = format!("{}/app/hook/config", fake.url());
            let asked = reqwest::Client::new().get(url).bearer_auth(token);
            let answer = asked.send().await.unwrap();
            let status = answer.status().as_u16();
            let body: Value = answer.json().await.unwrap();
            (status, body["message"].as_str().map(str::to_owned))
        };
        let rs256 = Algorithm::RS256;
        let (status, _) = ask(signed(&own, rs256, &claims(1, 540))).await;
        assert_eq!(status, 200);
        for (key, claims, words) in [
            (&other, claims(1, 540), UNREADABLE),
            (&own, claims(2, 540), UNREADABLE),
            (&own, claims(1, -1), OVER),
        ] {
            let answered = ask(signed(key, rs256, &claims)).await;
            assert_eq!(answered, (401, Some(words.to_owned())));
        }
        // What would fail the test is taken away, for here it is meant.
        let broken = fake.with(|state| std::mem::take(&mut state.broken));
        let of_401 = broken.iter().filter(|one| one.contains("401"));
        assert_eq!((of_401.count(), broken.len()), (3, 3), "{broken:?}");
    }
}
