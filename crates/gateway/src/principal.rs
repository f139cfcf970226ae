//! Principals: who acts. A person has e-mail addresses, by which commits are theirs; a machine has
//! none. Every token belongs to one. Nothing is deleted: records name principals for ever.
//!
//! A principal belongs to no site: who administers some sites reads them all, to make tokens for
//! them, and makes none.

use candlefish_ids::PrincipalId;
use candlefish_proto::access;
use candlefish_runtime::{
    database,
    identity::Caller,
    refusal::{Code, Refusal},
};
use jiff::Timestamp;
use sqlx::PgPool;
use tonic::{Response, metadata::MetadataMap};

use crate::{
    field::Faults,
    idempotency::{self, Key},
    page::Page,
    rehearsal::Rehearsal,
};

pub(crate) mod store;

/// Addresses that one person may have.
const MOST_EMAILS: usize = 10;
const LONGEST_EMAIL: usize = 254;

/// A person or a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    pub(crate) id: PrincipalId,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) emails: Vec<String>,
    pub(crate) created_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Person,
    Machine,
}

impl Kind {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Machine => "machine",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Self::Person, Self::Machine]
            .into_iter()
            .find(|kind| kind.word() == word)
    }

    const fn shown(self) -> access::principal::Kind {
        match self {
            Self::Person => access::principal::Kind::Person,
            Self::Machine => access::principal::Kind::Machine,
        }
    }

    pub(crate) const fn of_caller(self) -> candlefish_runtime::identity::Kind {
        match self {
            Self::Person => candlefish_runtime::identity::Kind::Person,
            Self::Machine => candlefish_runtime::identity::Kind::Machine,
        }
    }
}

impl From<Principal> for access::Principal {
    fn from(principal: Principal) -> Self {
        Self {
            id: principal.id.to_string(),
            name: principal.name,
            kind: principal.kind.shown().into(),
            emails: principal.emails,
            created_at: Some(shown(principal.created_at)),
        }
    }
}

/// A moment as messages carry it.
pub(crate) fn shown(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

/// Makes a principal.
pub(crate) async fn create(
    pool: &PgPool,
    metadata: &MetadataMap,
    caller: &Caller,
    request: access::CreatePrincipalRequest,
    rehearsal: Rehearsal,
) -> Result<Response<access::Principal>, Refusal> {
    if !caller.sites.is_empty() {
        let words = "a principal is of the whole platform, and your token is for some sites alone: \
                     an admin of all sites can make it";
        return Err(Refusal::new(Code::PermissionDenied, "outside-sites", words));
    }
    let key = Key::of(metadata, caller, "CreatePrincipal", &request)?;
    let wanted = read(request)?;
    let failed = |source: sqlx::Error| database::refuse("create a principal", &source);
    let mut tx = pool.begin().await.map_err(failed)?;
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(idempotency::replayed(before));
    }
    let made = store::insert(&mut tx, &wanted).await.map_err(failed)?;
    let Some(principal) = made else {
        let words = format!("there is a principal {:?} already", wanted.name);
        return Err(Refusal::new(Code::AlreadyExists, "principal-exists", words)
            .metadata("principal", wanted.name));
    };
    let id = principal.id.to_string();
    let answer = access::Principal::from(principal);
    let bytes = prost::Message::encode_to_vec(&answer);
    idempotency::keep(&mut tx, key.as_ref(), Some(bytes), &id).await?;
    if rehearsal.end(tx).await.map_err(failed)? {
        tracing::info!(
            principal = answer.name,
            by = caller.principal,
            "principal made"
        );
    }
    Ok(Response::new(answer))
}

/// Names what is wrong with a request that is not carried out.
pub(crate) fn judge(request: access::CreatePrincipalRequest) -> Result<(), Refusal> {
    read(request).map(drop)
}

/// What to make.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) emails: Vec<String>,
}

fn read(request: access::CreatePrincipalRequest) -> Result<Wanted, Refusal> {
    use access::principal::Kind as Asked;
    let mut faults = Faults::default();
    if !is_name(&request.name) {
        faults.add("name", "must be 1 to 64 of a-z, 0-9, -, . and _");
    }
    let kind = match request.kind() {
        Asked::Person => Kind::Person,
        Asked::Machine => Kind::Machine,
        Asked::Unspecified => {
            faults.add("kind", "must be KIND_PERSON or KIND_MACHINE");
            Kind::Machine
        }
    };
    if request.emails.len() > MOST_EMAILS {
        faults.add("emails", format!("must be at most {MOST_EMAILS}"));
    }
    if kind == Kind::Machine && !request.emails.is_empty() && request.kind() == Asked::Machine {
        faults.add("emails", "only persons have them");
    }
    for (place, email) in request.emails.iter().enumerate() {
        if !is_email(email) {
            faults.add(
                &format!("emails[{place}]"),
                "must be an e-mail address of at most 254 characters",
            );
        }
    }
    faults.finish()?;
    let emails = request
        .emails
        .iter()
        .map(|email| email.to_lowercase())
        .collect();
    Ok(Wanted {
        name: request.name,
        kind,
        emails,
    })
}

/// Whether a text may name a principal.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_')
        })
}

/// Enough to notice a slip; only a letter that arrives proves an address.
fn is_email(text: &str) -> bool {
    let well_formed = text
        .split_once('@')
        .is_some_and(|(user, host)| !user.is_empty() && host.contains('.') && !host.contains('@'));
    well_formed
        && text.len() <= LONGEST_EMAIL
        && !text
            .chars()
            .any(|letter| letter.is_whitespace() || letter.is_control())
}

/// Lists principals, by name.
pub(crate) async fn list(
    pool: &PgPool,
    request: access::ListPrincipalsRequest,
) -> Result<access::ListPrincipalsResponse, Refusal> {
    let mut faults = Faults::default();
    let page = Page::read(
        &mut faults,
        &["ListPrincipals"],
        request.page_size,
        &request.page_token,
    );
    let after = page
        .after()
        .map(|key| String::from_utf8_lossy(key).into_owned());
    if after.as_deref().is_some_and(|name| !is_name(name)) {
        faults.add("page_token", "is not one that this API gave");
    }
    faults.finish()?;
    let failed = |source: sqlx::Error| database::refuse("list principals", &source);
    let mut conn = pool.acquire().await.map_err(failed)?;
    let rows = store::list(&mut conn, after.as_deref(), page.limit())
        .await
        .map_err(failed)?;
    let (rows, next_page_token) = page.cut(rows, |row| row.name.as_bytes().to_vec());
    Ok(access::ListPrincipalsResponse {
        principals: rows.into_iter().map(Into::into).collect(),
        next_page_token,
    })
}
