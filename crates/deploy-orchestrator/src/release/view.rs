//! A release as the API shows it.

use std::collections::HashMap;

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy as pb;
use sqlx::PgConnection;

use super::{
    Error,
    store::{self, Shown},
};
use crate::ctx::shown;

/// Releases by id, with their standing rejections.
pub(crate) async fn load_many(
    conn: &mut PgConnection,
    ids: &[ReleaseId],
) -> Result<HashMap<ReleaseId, pb::Release>, sqlx::Error> {
    let rows = store::list_by_id(conn, ids).await?;
    let shown = with_rejections(conn, rows).await?;
    Ok(shown
        .into_iter()
        .filter_map(|one| Some((one.id.parse().ok()?, one)))
        .collect())
}

/// One release that is known to exist.
pub(super) async fn load(conn: &mut PgConnection, id: ReleaseId) -> Result<pb::Release, Error> {
    load_many(conn, &[id])
        .await?
        .remove(&id)
        .ok_or(Error::Unknown(id))
}

pub(super) async fn with_rejections(
    conn: &mut PgConnection,
    rows: Vec<Shown>,
) -> Result<Vec<pb::Release>, sqlx::Error> {
    let ids: Vec<ReleaseId> = rows.iter().map(|row| row.id).collect();
    let mut rejections: HashMap<ReleaseId, Vec<pb::release::Rejection>> = HashMap::new();
    for one in store::list_rejections(conn, &ids).await? {
        rejections
            .entry(one.release_id)
            .or_default()
            .push(pb::release::Rejection {
                environment: one.environment,
                at: Some(shown(one.at)),
                reason: one.reason,
                deployment_id: one.deployment_id.to_string(),
            });
    }
    Ok(rows
        .into_iter()
        .map(|row| {
            let rejections = rejections.remove(&row.id).unwrap_or_default();
            release(row, rejections)
        })
        .collect())
}

fn release(row: Shown, rejections: Vec<pb::release::Rejection>) -> pb::Release {
    let state = if row.sealed {
        pb::release::State::Sealed
    } else {
        pb::release::State::Draft
    };
    pb::Release {
        id: row.id.to_string(),
        site: row.site,
        manifest_digest: row.manifest,
        state: state.into(),
        commit: row.commit,
        message: row.message,
        author: row.author,
        author_email: row.author_email,
        committed_at: row.committed_at.map(shown),
        branches: row.branches,
        dirty: row.dirty,
        file_count: row.file_count,
        byte_count: row.byte_count,
        created_at: Some(shown(row.created_at)),
        created_by: row.created_by,
        sealed_at: row.sealed_at.map(shown),
        rejections,
    }
}
