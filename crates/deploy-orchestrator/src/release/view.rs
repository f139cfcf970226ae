//! A release as the API shows it.

use std::collections::HashMap;

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, ReleaseId};
use candlefish_proto::deploy as pb;
use sqlx::PgConnection;

use super::{
    Error, expected,
    store::{self, Shown},
};
use crate::ctx::shown;

/// Releases by id, with their standing rejections.
pub(crate) async fn load_many(
    conn: &mut PgConnection,
    ids: &[ReleaseId],
) -> Result<HashMap<ReleaseId, pb::Release>, sqlx::Error> {
    let rows = store::list_by_id(conn, ids).await?;
    Ok(rows.into_iter().map(|row| (row.id, release(row))).collect())
}

/// One release that is known to exist.
pub(super) async fn load(conn: &mut PgConnection, id: ReleaseId) -> Result<pb::Release, Error> {
    load_many(conn, &[id])
        .await?
        .remove(&id)
        .ok_or(Error::Unknown(id))
}

/// A release as its row tells it.
pub(crate) fn release(row: Shown) -> pb::Release {
    let rejections = row
        .rejections
        .into_iter()
        .map(|one| pb::release::Rejection {
            environment: one.environment,
            at: Some(shown(Moment::from_database(one.at))),
            reason: one.reason,
            deployment_id: DeploymentId::from_uuid(one.deployment_id).to_string(),
        });
    let state = if row.sealed {
        pb::release::State::Sealed
    } else {
        pb::release::State::Draft
    };
    pb::Release {
        id: row.id.to_string(),
        site: row.site,
        manifest_digest: if row.manifest == hex::encode(expected::UNKNOWN) {
            String::new()
        } else {
            row.manifest
        },
        state: state.into(),
        commit: row.commit,
        message: row.message,
        author: row.author,
        author_email: row.author_email,
        committed_at: row.committed_at.map(shown),
        branches: row.branches,
        parents: row.parents,
        dirty: row.dirty,
        file_count: row.file_count,
        byte_count: row.byte_count,
        created_at: Some(shown(row.created_at)),
        created_by: row.created_by,
        sealed_at: row.sealed_at.map(shown),
        collected_at: row.collected_at.map(shown),
        rejections: rejections.collect(),
        ban: row.ban.map(|ban| pb::release::Ban {
            at: Some(shown(Moment::from_database(ban.at))),
            by: ban.by,
            reason: ban.reason,
        }),
    }
}
