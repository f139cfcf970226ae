//! API tokens: `cft_`, the 26 characters of the token's id, `_`, and a random secret.
//!
//! The database holds the SHA-256 of the whole text. A slow hash would protect a guessable secret;
//! these have 192 random bits, and a fast one lets every call be checked. The id within the text
//! makes the lookup exact, so the comparison of the hash is the only one and takes constant time.

use aws_lc_rs::rand;
use candlefish_ids::TokenId;
use candlefish_proto::access::{self, Role};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::principal::shown;

pub(crate) mod bootstrap;
pub(crate) mod create;
pub(crate) mod list;
pub(crate) mod revoke;
pub(crate) mod store;

const PREFIX: &str = "cft_";
const ID_LEN: usize = 26;
/// Shorter secrets can be guessed.
const LEAST_SECRET: usize = 32;
const MOST_SECRET: usize = 128;
const RANDOM_BYTES: usize = 24;

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) id: TokenId,
    /// The principal's name.
    pub(crate) principal: String,
    pub(crate) name: String,
    pub(crate) role: Role,
    /// Slugs; empty for all.
    pub(crate) sites: Vec<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) revoked_at: Option<Timestamp>,
}

impl From<Token> for access::Token {
    fn from(token: Token) -> Self {
        Self {
            id: token.id.to_string(),
            principal: token.principal,
            name: token.name,
            role: token.role.into(),
            sites: token.sites,
            created_at: Some(shown(token.created_at)),
            expires_at: token.expires_at.map(shown),
            revoked_at: token.revoked_at.map(shown),
        }
    }
}

/// The SHA-256 of a token's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Hash([u8; 32]);

impl Hash {
    pub(crate) fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// In constant time.
    pub(crate) fn is(&self, stored: &[u8]) -> bool {
        self.0.ct_eq(stored).into()
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash(…)")
    }
}

/// What a caller presented, cut up; the secret itself is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Presented {
    pub(crate) id: TokenId,
    pub(crate) hash: Hash,
}

impl Presented {
    /// Nothing when the text is no token.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (id, rest) = text.strip_prefix(PREFIX)?.split_at_checked(ID_LEN)?;
        let secret = rest.strip_prefix('_')?;
        let strong = (LEAST_SECRET..=MOST_SECRET).contains(&secret.len())
            && secret.bytes().all(|letter| letter.is_ascii_alphanumeric());
        let id = TokenId::from_suffix(id).ok()?;
        strong.then(|| Self {
            id,
            hash: Hash::of(text),
        })
    }
}

/// The text of a new token.
pub(crate) fn make(id: TokenId) -> String {
    let mut bytes = [0_u8; RANDOM_BYTES];
    rand::fill(&mut bytes).expect("the random source does not fail once seeded");
    format!("{PREFIX}{}_{}", id.suffix(), hex::encode(bytes))
}

/// Whether a token of these sites reaches no further than `within`; both empty for all.
pub(crate) fn is_within(sites: &[String], within: &[String]) -> bool {
    let some = !sites.is_empty() && sites.iter().all(|site| within.contains(site));
    within.is_empty() || some
}

/// The word of a role in a row.
pub(crate) const fn role_word(role: Role) -> Option<&'static str> {
    match role {
        Role::Unspecified => None,
        Role::Viewer => Some("viewer"),
        Role::Deployer => Some("deployer"),
        Role::Approver => Some("approver"),
        Role::Admin => Some("admin"),
    }
}

fn role_from_word(word: &str) -> Option<Role> {
    [Role::Viewer, Role::Deployer, Role::Approver, Role::Admin]
        .into_iter()
        .find(|role| role_word(*role) == Some(word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_new_token_can_be_presented_and_only_whole() {
        let id = TokenId::new();
        let text = make(id);
        let presented = Presented::parse(&text).unwrap();
        assert_eq!(presented.id, id);
        assert!(presented.hash.is(Hash::of(&text).bytes()));
        let mut other = text.clone();
        other.pop();
        assert!(
            !Presented::parse(&other)
                .unwrap()
                .hash
                .is(Hash::of(&text).bytes())
        );
        assert_ne!(make(id), make(id));
    }

    #[test]
    fn texts_that_are_no_tokens_are_not_looked_up() {
        let id = TokenId::new().suffix();
        let secret = "0".repeat(32);
        for text in [
            String::new(),
            "cft_".to_owned(),
            format!("cft_{id}"),
            format!("cft_{id}_"),
            format!("cft_{id}_{}", "0".repeat(31)),
            format!("cft_{id}_{}", "0".repeat(129)),
            format!("cft_{id}_{}!", "0".repeat(32)),
            format!("cft_{}_{secret}", id.to_uppercase()),
            format!("tok_{id}_{secret}"),
        ] {
            assert_eq!(Presented::parse(&text), None, "{text}");
        }
        assert!(Presented::parse(&format!("cft_{id}_{secret}")).is_some());
    }

    #[test]
    fn roles_keep_their_words() {
        for role in [Role::Viewer, Role::Deployer, Role::Approver, Role::Admin] {
            assert_eq!(role_word(role).and_then(role_from_word), Some(role));
        }
        assert_eq!(role_word(Role::Unspecified), None);
        assert_eq!(role_from_word("owner"), None);
    }

    #[test]
    fn a_token_for_all_sites_is_within_nothing_less() {
        let table: [(&[&str], &[&str], bool); 6] = [
            (&[], &[], true),
            (&["docs"], &[], true),
            (&["docs"], &["docs", "blog"], true),
            (&["docs", "blog"], &["blog", "docs"], true),
            (&["docs", "shop"], &["docs"], false),
            (&[], &["docs"], false),
        ];
        for (sites, within, expected) in table {
            let [one, other] = [sites, within].map(|slugs| {
                let slugs = slugs.iter().map(|slug| (*slug).to_owned());
                slugs.collect::<Vec<_>>()
            });
            assert_eq!(is_within(&one, &other), expected, "{sites:?} in {within:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(cft_)?\\PC{0,90}") {
            Presented::parse(&text);
        }
    }
}
