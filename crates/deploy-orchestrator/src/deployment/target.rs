//! Which release a rollback leaves, and which comes back.

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId};
use candlefish_runtime::{
    identity::{Caller, Role},
    refusal::{Code, Refusal},
};
use sqlx::PgConnection;

use super::{
    Deployment, Error,
    accept::{Wanted, share_release},
    error::unknown_release,
    plan::Kind,
    roll_back::To,
};
use crate::{
    ctx::{Tx, stored},
    lane, release,
    site::Environment,
    step,
};

/// What a rollback is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) leaves: ReleaseId,
    pub(super) to: ReleaseId,
    /// A rollback that has left that release already, or that goes to that one now.
    pub(super) already: Option<DeploymentId>,
}

/// A release that somebody named as the way back.
#[derive(Debug)]
struct Asked {
    release: ReleaseId,
    wanted: Wanted,
    /// What named it.
    field: &'static str,
}

/// Chooses; refuses when there is nothing to leave or nothing to go back to, and what is no way back.
pub(super) async fn choose(
    tx: &mut Tx,
    caller: &Caller,
    environment: &Environment,
    leaves: Option<ReleaseId>,
    to: &To,
) -> Result<Choice, Error> {
    let serving = find_serving(tx, environment.id).await?;
    let place = environment.place();
    let leaves = find_leaves(tx, environment, leaves, serving).await?;
    let asked = find_asked(tx, environment, to).await?;
    let left = find_already(tx, environment.id, leaves).await?;
    if let Some((already, went_to)) = left
        && asked.as_ref().is_none_or(|asked| asked.release == went_to)
    {
        return Ok(Choice {
            leaves,
            to: went_to,
            already: Some(already),
        });
    }
    let to = if let Some(asked) = &asked {
        asked.release
    } else {
        let before = find_kept_before(tx, environment.id, leaves).await?;
        before.ok_or_else(|| nothing_before(leaves, &place))?
    };
    if let Some(choice) = find_going(tx, environment.id, leaves, to).await? {
        return Ok(choice);
    }
    if Some(to) == serving && to == leaves {
        let words = format!("{to} is live on {place} already");
        return Err(Refusal::new(Code::FailedPrecondition, "live-already", words).into());
    }
    let field = asked.as_ref().map_or("to_release_id", |asked| asked.field);
    check_hold(tx, caller, environment, to, field).await?;
    if let Some(asked) = &asked {
        check_was_live(tx, environment, asked).await?;
        asked.wanted.allowed(to, environment, field)?;
    }
    Ok(Choice {
        leaves,
        to,
        already: None,
    })
}

fn nothing_before(leaves: ReleaseId, place: &str) -> Refusal {
    let words = format!(
        "no release before {leaves} succeeded on {place} that is neither banned nor rejected nor left by a \
         rollback. Another that was live there can be named: candlefish rollback {place} --to REL; to end \
         what acts: candlefish abort DEP"
    );
    Refusal::new(Code::FailedPrecondition, "nothing-before", words)
}

/// The release that is left: the one that was named, which is the site's, or what visitors get.
async fn find_leaves(
    tx: &mut Tx,
    environment: &Environment,
    leaves: Option<ReleaseId>,
    serving: Option<ReleaseId>,
) -> Result<ReleaseId, Error> {
    let leaves = leaves.or(serving).ok_or_else(|| {
        let place = environment.place();
        let words = format!("nothing is live on {place}: there is nothing to go back from");
        Refusal::new(Code::FailedPrecondition, "nothing-live", words)
    })?;
    if Some(leaves) != serving && share_release(tx, environment, leaves).await?.is_none() {
        let words = format!("there is no release {leaves} in {}", environment.site);
        let refusal = Refusal::new(Code::InvalidArgument, "release-unknown", &words);
        return Err(refusal.field("leaves_release_id", words).into());
    }
    Ok(leaves)
}

/// The release that was named, which goes somewhere at all.
async fn find_asked(
    tx: &mut Tx,
    environment: &Environment,
    to: &To,
) -> Result<Option<Asked>, Error> {
    let (release, field) = match to {
        To::Before => return Ok(None),
        To::Release(release) => (
            find_release(tx, environment, *release).await?,
            "to_release_id",
        ),
        To::Commit(commit) => (find_commit(tx, environment, commit).await?, "to_commit"),
    };
    let wanted = share_release(tx, environment, release).await?;
    let wanted = wanted.ok_or_else(|| unknown_release(release))?;
    wanted.check(release, environment, field)?;
    Ok(Some(Asked {
        release,
        wanted,
        field,
    }))
}

/// While a hold stands, what a rollback left under it comes back by those alone who may lift the hold.
async fn check_hold(
    conn: &mut PgConnection,
    caller: &Caller,
    environment: &Environment,
    to: ReleaseId,
    field: &str,
) -> Result<(), Error> {
    let Some(hold) = &environment.hold else {
        return Ok(());
    };
    if caller.role >= Role::Approver || !was_left(conn, environment.id, to, hold.since).await? {
        return Ok(());
    }
    let place = environment.place();
    let words = format!(
        "{place} is held by {}: {}. A rollback left {to} since then, and to go there again needs the \
         role approver. Have the hold lifted instead: candlefish hold lift {place} --reason …",
        hold.by, hold.reason
    );
    let refusal = Refusal::new(Code::FailedPrecondition, "held", words);
    let described = format!("a rollback left it, and {place} is held since");
    Err(refusal.field(field, described).into())
}

/// Ending a rollback gives visitors back what it left. When another's rollback left that under the hold
/// that stands, this is for who may lift the hold.
pub(super) async fn check_end(
    conn: &mut PgConnection,
    caller: &Caller,
    ending: &Deployment,
) -> Result<(), Error> {
    if ending.kind != Kind::Rollback || caller.role >= Role::Approver {
        return Ok(());
    }
    let Some(back) = find_back(conn, ending).await? else {
        return Ok(());
    };
    let is_anothers = sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT 1 FROM environment e
               JOIN deployment r ON r.environment_id = e.id AND r.kind = 'rollback'
               WHERE e.id = $1 AND r.created_at >= e.hold_since AND r.created_by <> $3
               AND r.leaves_release_id = $2) AS "is!""#,
        ending.environment_id.uuid(),
        back.uuid(),
        caller.principal
    )
    .fetch_one(conn)
    .await?;
    if !is_anothers {
        return Ok(());
    }
    let place = ending.place();
    let words = format!(
        "{} keeps {place} from what somebody's rollback left, and {place} is held: to end it needs the \
         role approver. To go further back: candlefish rollback {place} --to REL",
        ending.id
    );
    Err(Refusal::new(Code::FailedPrecondition, "held", words).into())
}

/// The release that visitors get when a rollback is ended, if any: what was live before it. While it has
/// moved no traffic, where what it preempted would have returned to, or else what they get now.
async fn find_back(
    conn: &mut PgConnection,
    ending: &Deployment,
) -> Result<Option<ReleaseId>, sqlx::Error> {
    if ending.state.pivoted() {
        return Ok(ending.previous_release_id);
    }
    if let Some(inherited) = step::undo::find_inherited(conn, ending.id).await? {
        return Ok(inherited.to);
    }
    let live = lane::store::find_live(conn, ending.environment_id).await?;
    Ok(live.map(|live| live.release_id))
}

/// A rollback does not look at its candidate before it goes live, and passes holds and stops: so it
/// goes to nothing but what visitors of this environment had before.
async fn check_was_live(
    conn: &mut PgConnection,
    environment: &Environment,
    asked: &Asked,
) -> Result<(), Error> {
    let release = asked.release;
    if was_live(conn, environment.id, release).await? {
        return Ok(());
    }
    let place = environment.place();
    let flags = place.replacen('/', " --env ", 1);
    let commit = match asked.wanted.commit.as_str() {
        "" => String::new(),
        commit => format!(" --commit {commit}"),
    };
    let words = format!(
        "{release} was never live on {place}: there is no going back to it. Deploy it instead: \
         candlefish deploy DIR --site {flags}{commit}"
    );
    let refusal = Refusal::new(Code::FailedPrecondition, "never-live", words);
    let described = format!("never was live on {place}");
    Err(refusal.field(asked.field, described).into())
}

/// All traffic of this environment was on the release at some moment. That of a rollback is at once, and
/// stays there also when the rollback fails.
async fn was_live(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    release: ReleaseId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT 1 FROM deployment WHERE environment_id = $1 AND release_id = $2
               AND (live_at IS NOT NULL OR kind = 'rollback' AND pivoted_at IS NOT NULL)) AS "was!""#,
        environment.uuid(),
        release.uuid()
    )
    .fetch_one(conn)
    .await
}

/// A rollback was asked for since then that left the release, whatever became of it. Not one that took
/// another back: an approver judged then what that had left, not what it went to.
async fn was_left(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    release: ReleaseId,
    since: Moment,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT 1 FROM deployment r WHERE r.environment_id = $1 AND r.kind = 'rollback'
               AND r.leaves_release_id = $2 AND r.created_at >= $3
               AND NOT EXISTS (
                   SELECT 1 FROM deployment b WHERE b.environment_id = $1 AND b.kind = 'rollback'
                   AND b.leaves_release_id = r.release_id
                   AND b.admission < r.admission AND b.created_at >= $3)) AS "was!""#,
        environment.uuid(),
        release.uuid(),
        stored(since) as _
    )
    .fetch_one(conn)
    .await
}

/// The release that visitors get: of what acts past its pivot, else the live one. While a rollback
/// has moved nothing yet, the one that it leaves, which may have had no more than a share.
async fn find_serving(
    conn: &mut PgConnection,
    environment: EnvironmentId,
) -> Result<Option<ReleaseId>, sqlx::Error> {
    let id = sqlx::query_scalar!(
        r#"SELECT COALESCE(
               (SELECT CASE WHEN pivoted_at IS NULL THEN leaves_release_id ELSE release_id END
                FROM deployment WHERE environment_id = $1
                AND state IN ('running', 'waiting', 'cancelling')),
               (SELECT live_release_id FROM environment WHERE id = $1)) AS release_id"#,
        environment.uuid()
    )
    .fetch_one(conn)
    .await?;
    Ok(id.map(ReleaseId::from_uuid))
}

/// A rollback that left this release and was not itself given up, since that last got traffic: one
/// of it that waited meanwhile may have come after.
async fn find_already(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    leaves: ReleaseId,
) -> Result<Option<(DeploymentId, ReleaseId)>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT r.id, r.release_id FROM deployment r
         WHERE r.environment_id = $1 AND r.kind = 'rollback' AND r.leaves_release_id = $2
           AND r.state IN ('pending', 'running', 'waiting', 'succeeded')
           AND NOT EXISTS (
               SELECT 1 FROM deployment d WHERE d.environment_id = $1 AND d.release_id = $2
               AND d.pivoted_at > r.created_at)
         ORDER BY r.admission DESC LIMIT 1",
        environment.uuid(),
        leaves.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| {
        (
            DeploymentId::from_uuid(row.id),
            ReleaseId::from_uuid(row.release_id),
        )
    }))
}

/// A rollback that goes to this release already, whatever it leaves: it yields to one with another target
/// alone.
async fn find_going(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    leaves: ReleaseId,
    to: ReleaseId,
) -> Result<Option<Choice>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT id, leaves_release_id FROM deployment
         WHERE environment_id = $1 AND state IN ('running', 'waiting')
           AND kind = 'rollback' AND release_id = $2",
        environment.uuid(),
        to.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Choice {
        leaves: row.leaves_release_id.map_or(leaves, ReleaseId::from_uuid),
        to,
        already: Some(DeploymentId::from_uuid(row.id)),
    }))
}

/// What [`find_before`] finds, locked against being banned and collected. One that was either between
/// the two looks is left out of the second.
async fn find_kept_before(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    leaves: ReleaseId,
) -> Result<Option<ReleaseId>, sqlx::Error> {
    while let Some(found) = find_before(conn, environment, leaves, None).await? {
        if release::store::share(conn, found).await?
            && release::store::find_ban(conn, found).await?.is_none()
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The newest release that succeeded here before the one left, neither banned nor rejected nor
/// itself left, with its content. Collecting keeps it. A rollback that failed past its pivot and was not
/// undone, or there gave way to another one, left what it left all the same.
///
/// `passes` is passed over as well, whatever else it is.
///
/// By admission, which one database counts; ids are ordered by the clocks of the machines that made
/// them.
pub(crate) async fn find_before(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    leaves: ReleaseId,
    passes: Option<ReleaseId>,
) -> Result<Option<ReleaseId>, sqlx::Error> {
    let id = sqlx::query_scalar!(
        "SELECT d.release_id FROM deployment d
         WHERE d.environment_id = $1 AND d.state = 'succeeded' AND d.release_id <> $2
           AND d.release_id IS DISTINCT FROM $3
           AND d.admission < COALESCE(
               (SELECT max(l.admission) FROM deployment l
                WHERE l.environment_id = $1 AND l.release_id = $2 AND l.pivoted_at IS NOT NULL),
               9223372036854775807)
           AND NOT EXISTS (
               SELECT 1 FROM rejection j WHERE j.environment_id = $1
               AND j.release_id = d.release_id AND j.cleared_at IS NULL)
           AND NOT EXISTS (
               SELECT 1 FROM ban x WHERE x.release_id = d.release_id AND x.cleared_at IS NULL)
           AND (SELECT c.state = 'sealed' AND c.collected_at IS NULL
                FROM release c WHERE c.id = d.release_id)
           AND NOT EXISTS (
               SELECT 1 FROM deployment r WHERE r.environment_id = $1 AND r.kind = 'rollback'
               AND r.leaves_release_id = d.release_id AND r.admission > d.admission
               AND (r.state NOT IN ('failed', 'cancelled', 'superseded', 'rolled_back')
                    OR r.pivoted_at IS NOT NULL
                       AND (r.state = 'failed' AND r.target_confirmed IS NULL
                            OR r.cause = 'preempted')))
         ORDER BY d.admission DESC LIMIT 1",
        environment.uuid(),
        leaves.uuid(),
        passes.map(ReleaseId::uuid)
    )
    .fetch_optional(conn)
    .await?;
    Ok(id.map(ReleaseId::from_uuid))
}

async fn find_release(
    conn: &mut PgConnection,
    environment: &Environment,
    release: ReleaseId,
) -> Result<ReleaseId, Error> {
    let found = sqlx::query_scalar!(
        "SELECT id FROM release WHERE id = $1 AND site_id = $2 AND state = 'sealed'",
        release.uuid(),
        environment.site_id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    found.map(ReleaseId::from_uuid).ok_or_else(|| {
        let words = format!("{} has no sealed release {release}", environment.site);
        Refusal::new(Code::InvalidArgument, "release-unknown", &words)
            .field("to_release_id", words)
            .into()
    })
}

/// The newest release of a commit that was live here; if none was, the newest, of which that is said.
async fn find_commit(
    conn: &mut PgConnection,
    environment: &Environment,
    commit: &str,
) -> Result<ReleaseId, Error> {
    let found = sqlx::query_scalar!(
        "SELECT r.id FROM release r
         WHERE r.site_id = $1 AND r.commit >= $2 AND r.commit < $2 || 'g' AND r.state = 'sealed'
         ORDER BY
             (SELECT d.id FROM deployment d WHERE d.environment_id = $3 AND d.release_id = r.id
              AND (d.live_at IS NOT NULL OR d.kind = 'rollback' AND d.pivoted_at IS NOT NULL)
              LIMIT 1) IS NULL,
             r.collected_at IS NOT NULL, r.id DESC LIMIT 1",
        environment.site_id.uuid(),
        commit,
        environment.id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    found.map(ReleaseId::from_uuid).ok_or_else(|| {
        let words = format!(
            "{} has no sealed release of commit {commit}",
            environment.site
        );
        Refusal::new(Code::InvalidArgument, "commit-unknown", &words)
            .field("to_commit", words)
            .into()
    })
}
