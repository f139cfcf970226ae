//! What a deployment shares its lane with: who acts, who waits, and what keeps all of them.

use candlefish_proto::deploy::{
    Blocker, Deployment, Environment, Hold, Lane, Stop, blocker::Kind, policy::Order,
};

use super::{Look, blockers, ending::Now, stop, words};

/// As many as a lane lists of those that wait.
const LISTED: usize = 100;

/// What is known of the lane around a deployment.
#[derive(Debug)]
pub(crate) enum Around {
    /// It has ended: no lane is its own any more. What is so now where it went.
    Ended(Now),
    /// The lane, and the first that waits there unless it is the deployment itself.
    Shared {
        /// The lane.
        lane: Box<Lane>,
        /// The first, or why it could not be read.
        first: Option<Result<Box<Deployment>, String>>,
        /// The order of its environment, or why it could not be read; none where nothing depends on it.
        order: Option<Result<Order, String>>,
    },
    /// Why the lane could not be read.
    Unread(String),
}

/// Where it stands in its lane, and what keeps everything there.
pub(super) fn lines(deployment: &Deployment, around: &Around, look: &Look) -> Vec<String> {
    match around {
        Around::Ended(_) => Vec::new(),
        Around::Unread(why) => {
            vec![format!(
                "  What is before it, and whether all is held or stopped, could not be read: {why}"
            )]
        }
        Around::Shared { lane, .. } => std::iter::once(order(deployment, lane))
            .chain(kept(deployment, lane, look))
            .collect(),
    }
}

/// Who is before it in the lane, and how many are after it.
fn order(deployment: &Deployment, lane: &Lane) -> String {
    let pending = &lane.pending_deployment_ids;
    // Those beyond what is listed, and those without content, come after all of these.
    let place = pending.iter().position(|id| *id == deployment.id);
    let is_acting = lane.acting_deployment_id == deployment.id;
    let before: Vec<&str> = Some(lane.acting_deployment_id.as_str())
        .filter(|id| !id.is_empty())
        .into_iter()
        .chain(
            pending
                .iter()
                .take(place.unwrap_or(pending.len()))
                .map(String::as_str),
        )
        .collect();
    let after = match (is_acting, place) {
        (true, _) => pending.len(),
        (false, Some(place)) => pending.len().saturating_sub(place + 1),
        (false, None) => 0,
    };
    let least = if pending.len() < LISTED {
        ""
    } else {
        "at least "
    };
    let after = match after {
        0 => None,
        1 => Some(format!("{least}1 deployment waits after it")),
        more => Some(format!("{least}{more} deployments wait after it")),
    };
    if is_acting {
        let after = after.unwrap_or_else(|| "nothing waits after it".to_owned());
        return format!("  It has the lane; {after}.");
    }
    let before = match before.as_slice() {
        [] => "nothing".to_owned(),
        ids => ids.join(", "),
    };
    let after = after.map(|after| format!("; {after}"));
    format!("  Before it: {before}{}.", after.unwrap_or_default())
}

/// The hold and the stops of the lane that the deployment's own blockers do not tell.
fn kept(deployment: &Deployment, lane: &Lane, look: &Look) -> Vec<String> {
    let place = format!("{}/{}", lane.site, lane.environment);
    let standing = deployment.blockers.iter();
    let standing: Vec<&Blocker> = standing.filter(|one| blockers::stands(one)).collect();
    let is_told = standing.iter().any(|one| one.kind() == Kind::Hold);
    let hold = lane.hold.as_ref().filter(|_| !is_told);
    let hold = hold.map(|hold| held(&place, &place, hold, look));
    // Of two stops an older orchestrator tells one.
    let is_told_of = |stop: &Stop| standing.iter().any(|one| tells(one, stop));
    hold.into_iter()
        .chain(untold(&lane.stops, is_told_of, look))
        .flatten()
        .collect()
}

/// Whether this blocker is this stop, which keeps the deployment that it is of.
pub(super) fn tells(blocker: &Blocker, stop: &Stop) -> bool {
    blocker.kind() == Kind::Stop && blocker.until == stop.until
}

/// The stops that are not told.
fn untold(stops: &[Stop], is_told: impl Fn(&Stop) -> bool, look: &Look) -> Vec<[String; 2]> {
    let untold = stops.iter().filter(|stop| !is_told(stop));
    untold.map(|stop| stopped(stop, look)).collect()
}

/// What holds an environment, and what stops it that is not told; of each its two lines.
pub(super) fn besides(
    environment: &Environment,
    is_told: impl Fn(&Stop) -> bool,
    look: &Look,
) -> Vec<[String; 2]> {
    let place = format!("{}/{}", environment.site, environment.slug);
    let hold = environment.hold.as_ref();
    let hold = hold.map(|hold| held(&place, &place, hold, look));
    hold.into_iter()
        .chain(untold(&environment.stops, is_told, look))
        .collect()
}

/// What keeps an environment in which nothing waits.
pub(super) fn of_environment(environment: &Environment, look: &Look) -> Vec<String> {
    let place = format!("{}/{}", environment.site, environment.slug);
    let hold = environment.hold.as_ref();
    let hold = hold.map(|hold| held("It", &place, hold, look));
    let stops = environment.stops.iter().map(|stop| stopped(stop, look));
    hold.into_iter().chain(stops).flatten().collect()
}

fn held(what: &str, place: &str, hold: &Hold, look: &Look) -> [String; 2] {
    let since = words::ago(hold.since.as_ref(), &look.now);
    [
        format!(
            "  {what} is held by {} ({since}): \"{}\"",
            hold.by, hold.reason
        ),
        format!("  lift: candlefish hold lift {place} --reason \"…\"   (approver)"),
    ]
}

fn stopped(one: &Stop, look: &Look) -> [String; 2] {
    [
        format!("  The line is stopped: {}", stop::line(one, look)),
        format!("  lift: {}   (approver)", stop::lift(one)),
    ]
}

/// The first that waits, and for what; nothing when that is the deployment itself.
pub(super) fn first(around: &Around, look: &Look) -> Vec<String> {
    let Around::Shared {
        lane,
        first: Some(first),
        ..
    } = around
    else {
        return Vec::new();
    };
    let id = lane.pending_deployment_ids.first();
    let told = match first {
        Ok(first) => blockers::told(first, &Now::Free, look),
        Err(why) => {
            let id = id.map(String::as_str).unwrap_or_default();
            vec![format!("  {id} could not be read: {why}")]
        }
    };
    let head = ["", "  The first that waits:"].map(str::to_owned);
    head.into_iter().chain(told).collect()
}
