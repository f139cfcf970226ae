//! Every SQL string about principals.

use candlefish_ids::PrincipalId;
use jiff_sqlx::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Kind, Principal, Wanted};

struct Row {
    id: Uuid,
    name: String,
    kind: String,
    emails: Vec<String>,
    created_at: Timestamp,
}

impl TryFrom<Row> for Principal {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        let kind = Kind::from_word(&row.kind).ok_or_else(|| {
            sqlx::Error::Decode(
                format!("principal {}: kind {:?} is unknown", row.id, row.kind).into(),
            )
        })?;
        Ok(Self {
            id: PrincipalId::from_uuid(row.id),
            name: row.name,
            kind,
            emails: row.emails,
            created_at: row.created_at.to_jiff(),
        })
    }
}

/// Nothing when the name is taken.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    wanted: &Wanted,
) -> Result<Option<Principal>, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"INSERT INTO principal (id, name, kind, emails, created_at)
           VALUES ($1, $2, $3, $4, clock()) ON CONFLICT (name) DO NOTHING
           RETURNING id, name, kind, emails, created_at AS "created_at: Timestamp""#,
        PrincipalId::new().uuid(),
        wanted.name,
        wanted.kind.word(),
        &wanted.emails
    )
    .fetch_optional(conn)
    .await?;
    row.map(Principal::try_from).transpose()
}

pub(crate) async fn find_by_name(
    conn: &mut PgConnection,
    name: &str,
) -> Result<Option<Principal>, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id, name, kind, emails, created_at AS "created_at: Timestamp"
           FROM principal WHERE name = $1"#,
        name
    )
    .fetch_optional(conn)
    .await?;
    row.map(Principal::try_from).transpose()
}

/// By name, from the one after `after` on.
pub(super) async fn list(
    conn: &mut PgConnection,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Principal>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id, name, kind, emails, created_at AS "created_at: Timestamp"
           FROM principal WHERE name > $1 ORDER BY name LIMIT $2"#,
        after.unwrap_or_default(),
        limit
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Principal::try_from).collect()
}
