//! Makes a token. Its secret is in the answer and nowhere else.

use candlefish_ids::TokenId;
use candlefish_proto::access::{self, Role};
use candlefish_runtime::{
    database,
    identity::Caller,
    refusal::{Code, FieldViolation, Refusal},
};
use jiff::Timestamp;
use sqlx::{PgConnection, PgPool};
use tonic::{Response, metadata::MetadataMap};

use super::{Hash, make, store};
use crate::{
    field::{Faults, is_site_slug},
    idempotency::{self, Key},
    principal,
    rehearsal::Rehearsal,
};

const LONGEST_NAME: usize = 64;
const MOST_SITES: usize = 100;
/// The first moment that a message may name, 0001-01-01T00:00:00Z: the library knows earlier ones, which
/// the database does not.
const FIRST_SECOND: i64 = -62_135_596_800;

pub(crate) async fn create(
    pool: &PgPool,
    metadata: &MetadataMap,
    caller: &Caller,
    request: access::CreateTokenRequest,
    rehearsal: Rehearsal,
) -> Result<Response<access::CreateTokenResponse>, Refusal> {
    let key = Key::of(metadata, caller, "CreateToken", &request)?;
    let (mut faults, expires_at) = check(&request);
    bound(caller, &request.sites, &mut faults)?;
    let failed = |source: sqlx::Error| database::refuse("create a token", &source);
    let mut tx = pool.begin().await.map_err(failed)?;
    // A secret answer is not kept, so a repeat is refused here and nothing is ever replayed.
    idempotency::replay::<access::CreateTokenResponse>(&mut tx, key.as_ref()).await?;
    let owner = settle(&mut tx, faults, &request, expires_at).await?;
    let id = TokenId::new();
    let secret = make(id);
    let wanted = store::Wanted {
        id,
        role: request.role(),
        name: request.name,
        sites: request.sites,
        expires_at,
        hash: Hash::of(&secret),
        bootstrap: false,
    };
    let token = store::insert(&mut tx, &owner, &wanted)
        .await
        .map_err(failed)?;
    idempotency::keep(&mut tx, key.as_ref(), None, &token.id.to_string()).await?;
    if !rehearsal.end(tx).await.map_err(failed)? {
        // It would open nothing.
        let (token, secret) = (Some(token.into()), String::new());
        return Ok(Response::new(access::CreateTokenResponse { token, secret }));
    }
    tracing::info!(token = %token.id, principal = token.principal, by = caller.principal, "token made");
    Ok(Response::new(access::CreateTokenResponse {
        token: Some(token.into()),
        secret,
    }))
}

/// Names what is wrong with a request that is not carried out.
pub(crate) async fn judge(
    pool: &PgPool,
    caller: &Caller,
    request: &access::CreateTokenRequest,
) -> Result<(), Refusal> {
    let (mut faults, expires_at) = check(request);
    bound(caller, &request.sites, &mut faults)?;
    let failed = |source: sqlx::Error| database::refuse("judge a token", &source);
    let mut conn = pool.acquire().await.map_err(failed)?;
    settle(&mut conn, faults, request, expires_at)
        .await
        .map(drop)
}

/// Nobody hands on more than they have: whose token is for some sites makes tokens for those alone. Where
/// the form is wrong too, the sites are named beside that: a person corrects a request once.
fn bound(caller: &Caller, sites: &[String], faults: &mut Faults) -> Result<(), Refusal> {
    if super::is_within(sites, &caller.sites) {
        return Ok(());
    }
    let violation = |field: String, description: &str| FieldViolation {
        field,
        description: description.to_owned(),
    };
    let outside: Vec<FieldViolation> = if sites.is_empty() {
        let words = "must name one of your sites at least: empty is all of them";
        vec![violation("sites".to_owned(), words)]
    } else {
        let places = sites.iter().enumerate().take(MOST_SITES);
        let outside = places.filter(|(_, site)| !caller.sees(site));
        outside
            .map(|(place, _)| violation(format!("sites[{place}]"), "is not a site of your token"))
            .collect()
    };
    if faults.is_empty() {
        let words = "your token is for some sites alone: it makes none that reaches further";
        let refusal = Refusal::new(Code::PermissionDenied, "outside-sites", words);
        return Err(refusal.fields(outside));
    }
    for one in outside {
        if !faults.has(&one.field) {
            faults.add(&one.field, one.description);
        }
    }
    Ok(())
}

/// What can be judged without the database.
fn check(request: &access::CreateTokenRequest) -> (Faults, Option<Timestamp>) {
    let mut faults = Faults::default();
    faults.length("name", &request.name, 1, LONGEST_NAME);
    if request.role() == Role::Unspecified {
        faults.add(
            "role",
            "must be ROLE_VIEWER, ROLE_DEPLOYER, ROLE_APPROVER or ROLE_ADMIN",
        );
    }
    if request.sites.len() > MOST_SITES {
        faults.add("sites", format!("must be at most {MOST_SITES}"));
    }
    for (place, site) in request.sites.iter().enumerate() {
        if !is_site_slug(site) {
            faults.add(&format!("sites[{place}]"), "must be the slug of a site");
        }
    }
    let expires_at = request.expires_at.as_ref().and_then(|at| {
        let read = Timestamp::new(at.seconds, at.nanos).ok();
        let read = read.filter(|read| read.as_second() >= FIRST_SECOND);
        if read.is_none() {
            faults.add("expires_at", "must be a time that exists");
        }
        read
    });
    (faults, expires_at)
}

/// Whose token it will be. All faults at once, also those that only the database knows.
async fn settle(
    conn: &mut PgConnection,
    mut faults: Faults,
    request: &access::CreateTokenRequest,
    expires_at: Option<Timestamp>,
) -> Result<principal::Principal, Refusal> {
    let failed = |source: sqlx::Error| database::refuse("create a token", &source);
    if let Some(at) = expires_at
        && !store::is_future(conn, at).await.map_err(failed)?
    {
        faults.add("expires_at", "must be in the future");
    }
    // Not every text is one that the database can hold.
    let is_name = principal::is_name(&request.principal);
    let owner = if is_name {
        let found = principal::store::find_by_name(conn, &request.principal).await;
        found.map_err(failed)?
    } else {
        None
    };
    if owner.is_none() {
        let words = if is_name {
            "there is no such principal; make it first with POST /v1/principals"
        } else {
            "must be the name of a principal"
        };
        faults.add("principal", words);
    }
    faults.finish()?;
    owner.ok_or_else(|| Refusal::new(Code::Internal, "token-owner", "a fault was not finished"))
}
