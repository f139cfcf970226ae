//! Every SQL string about tokens.

use candlefish_ids::TokenId;
use jiff_sqlx::{Timestamp, ToSqlx};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Hash, Token, role_from_word, role_word};
use crate::principal::{Kind, Principal};

struct Row {
    id: Uuid,
    principal: String,
    name: String,
    role: String,
    sites: Vec<String>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

impl TryFrom<Row> for Token {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        let role = role_from_word(&row.role).ok_or_else(|| {
            sqlx::Error::Decode(format!("token {}: role {:?} is unknown", row.id, row.role).into())
        })?;
        Ok(Self {
            id: TokenId::from_uuid(row.id),
            principal: row.principal,
            name: row.name,
            role,
            sites: row.sites,
            created_at: row.created_at.to_jiff(),
            expires_at: row.expires_at.map(Timestamp::to_jiff),
            revoked_at: row.revoked_at.map(Timestamp::to_jiff),
        })
    }
}

/// What the check of a presented token needs.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) token: Token,
    pub(crate) hash: Vec<u8>,
    pub(crate) principal: Principal,
    /// By the database's clock.
    pub(crate) now: jiff::Timestamp,
}

/// What to make.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) id: TokenId,
    pub(crate) name: String,
    pub(crate) role: candlefish_proto::access::Role,
    pub(crate) sites: Vec<String>,
    pub(crate) expires_at: Option<jiff::Timestamp>,
    pub(crate) hash: Hash,
    pub(crate) bootstrap: bool,
}

pub(crate) async fn find(
    conn: &mut PgConnection,
    id: TokenId,
) -> Result<Option<Found>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT t.id, t.name, t.hash, t.role, t.sites, t.created_at AS "created_at: Timestamp",
                  t.expires_at AS "expires_at: Timestamp", t.revoked_at AS "revoked_at: Timestamp",
                  p.id AS principal_id, p.name AS principal, p.kind, p.emails,
                  p.created_at AS "principal_created_at: Timestamp", clock() AS "now!: Timestamp"
           FROM token t JOIN principal p ON p.id = t.principal_id WHERE t.id = $1"#,
        id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let kind = Kind::from_word(&row.kind).ok_or_else(|| {
        let words = format!(
            "principal {}: kind {:?} is unknown",
            row.principal_id, row.kind
        );
        sqlx::Error::Decode(words.into())
    })?;
    let principal = Principal {
        id: candlefish_ids::PrincipalId::from_uuid(row.principal_id),
        name: row.principal.clone(),
        kind,
        emails: row.emails,
        created_at: row.principal_created_at.to_jiff(),
    };
    let token = Token::try_from(Row {
        id: row.id,
        principal: row.principal,
        name: row.name,
        role: row.role,
        sites: row.sites,
        created_at: row.created_at,
        expires_at: row.expires_at,
        revoked_at: row.revoked_at,
    })?;
    Ok(Some(Found {
        token,
        hash: row.hash,
        principal,
        now: row.now.to_jiff(),
    }))
}

/// Makes a token of the principal.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    principal: &Principal,
    wanted: &Wanted,
) -> Result<Token, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"INSERT INTO token (id, principal_id, name, hash, role, sites, created_at, expires_at, bootstrap)
           VALUES ($1, $2, $3, $4, $5, $6, clock(), $7, $8)
           RETURNING id, $9::text AS "principal!", name, role, sites,
                     created_at AS "created_at: Timestamp", expires_at AS "expires_at: Timestamp",
                     revoked_at AS "revoked_at: Timestamp""#,
        wanted.id.uuid(),
        principal.id.uuid(),
        wanted.name,
        wanted.hash.bytes().as_slice(),
        role_word(wanted.role).unwrap_or_default(),
        &wanted.sites,
        wanted.expires_at.map(ToSqlx::to_sqlx) as _,
        wanted.bootstrap,
        principal.name
    )
    .fetch_one(conn)
    .await?
    .try_into()
}

/// Whether a moment is still to come, by the database's clock.
pub(crate) async fn is_future(
    conn: &mut PgConnection,
    at: jiff::Timestamp,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT clock() < $1 AS "future!""#, at.to_sqlx() as _)
        .fetch_one(conn)
        .await
}

/// Ends a token that reaches no further than `within`; one that ended before keeps its time. Nothing
/// when there is none.
pub(crate) async fn revoke(
    conn: &mut PgConnection,
    id: TokenId,
    within: &[String],
) -> Result<Option<Token>, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"UPDATE token t SET revoked_at = COALESCE(t.revoked_at, clock())
           FROM principal p WHERE p.id = t.principal_id AND t.id = $1
             AND ($2::text[] = '{}' OR (t.sites <> '{}' AND t.sites <@ $2))
           RETURNING t.id, p.name AS principal, t.name, t.role, t.sites,
                     t.created_at AS "created_at: Timestamp", t.expires_at AS "expires_at: Timestamp",
                     t.revoked_at AS "revoked_at: Timestamp""#,
        id.uuid(),
        within
    )
    .fetch_optional(conn)
    .await?;
    row.map(Token::try_from).transpose()
}

/// Ends the bootstrap tokens that the configuration no longer names.
pub(super) async fn revoke_other_bootstraps(
    conn: &mut PgConnection,
    id: TokenId,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE token SET revoked_at = clock() WHERE bootstrap AND revoked_at IS NULL AND id <> $1",
        id.uuid()
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// All of them, newest first, from the one before `before` on.
///
/// A principal's name is looked up for each row that is answered, here and in the other lists: to a
/// join Postgres may read all principals.
pub(super) async fn list_all(
    conn: &mut PgConnection,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Token>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT t.id, (SELECT p.name FROM principal p WHERE p.id = t.principal_id) AS "principal!",
                  t.name, t.role, t.sites, t.created_at AS "created_at: Timestamp",
                  t.expires_at AS "expires_at: Timestamp", t.revoked_at AS "revoked_at: Timestamp"
           FROM token t WHERE t.id < $1 ORDER BY t.id DESC LIMIT $2"#,
        before.unwrap_or(Uuid::max()),
        limit
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Token::try_from).collect()
}

/// As [`list_all`], of one principal.
pub(super) async fn list_of(
    conn: &mut PgConnection,
    principal: Uuid,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Token>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT t.id, (SELECT p.name FROM principal p WHERE p.id = t.principal_id) AS "principal!",
                  t.name, t.role, t.sites, t.created_at AS "created_at: Timestamp",
                  t.expires_at AS "expires_at: Timestamp", t.revoked_at AS "revoked_at: Timestamp"
           FROM token t WHERE t.principal_id = $1 AND t.id < $2 ORDER BY t.id DESC LIMIT $3"#,
        principal,
        before.unwrap_or(Uuid::max()),
        limit
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Token::try_from).collect()
}

/// As [`list_all`], of those whose first site is one of these. That is all of which every site is one
/// of these, and some more: an index knows one site of a token, and no index knows that all are among
/// some. The site is asked for as a range: told that it is equal, Postgres may walk the ids of all
/// tokens instead.
pub(super) async fn list_on(
    conn: &mut PgConnection,
    sites: &[String],
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Token>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT t.id AS "id!",
                  (SELECT p.name FROM principal p WHERE p.id = t.principal_id) AS "principal!",
                  t.name AS "name!", t.role AS "role!", t.sites AS "sites!",
                  t.created_at AS "created_at!: Timestamp", t.expires_at AS "expires_at?: Timestamp",
                  t.revoked_at AS "revoked_at?: Timestamp"
           FROM (SELECT c.* FROM (SELECT DISTINCT unnest($1::text[]) AS site) s
                 CROSS JOIN LATERAL (
                     SELECT * FROM token
                     WHERE (sites[1], id) < (s.site, $2) AND sites[1] >= s.site
                     ORDER BY sites[1] DESC, id DESC LIMIT $3) c
                 ORDER BY c.id DESC LIMIT $3) t
           ORDER BY t.id DESC"#,
        sites,
        before.unwrap_or(Uuid::max()),
        limit
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Token::try_from).collect()
}
