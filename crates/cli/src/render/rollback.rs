//! What a rollback will do, before it is asked for.

use candlefish_proto::deploy::{Environment, Release, Rollback};
use jiff::SignedDuration;

use super::{Look, words};

/// Paths that are named; the rest is counted.
const NAMED: usize = 5;
/// So long after a rollback somebody may go back who does not know of it.
const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// What goes back to what, what will be gone, and what holds afterwards.
pub(crate) fn forecast(rollback: &Rollback, environment: &Environment, look: &Look) -> String {
    let place = format!("{}/{}", environment.site, environment.slug);
    if rollback.already {
        // Before it is asked for there is no answer yet, but the word of it.
        let made = rollback.deployment.as_ref().map(|made| made.id.as_str());
        let told = rollback.earlier.as_ref();
        let told = told.map(|earlier| earlier.deployment_id.as_str());
        let id = made.or(told).unwrap_or_default();
        return format!("  A rollback has already left that release: {id}. Nothing more is done.");
    }
    let live = words::since(environment.live_since.as_ref(), &look.now);
    let live = live
        .map(|live| format!(", live {}", words::about(live)))
        .unwrap_or_default();
    let from = rollback
        .from
        .as_ref()
        .map(|release| named(release, &live))
        .unwrap_or_default();
    let to = rollback
        .to
        .as_ref()
        .map(|release| named(release, &was_live(rollback, release, look)))
        .unwrap_or_default();
    let mut lines = vec![format!("  {place} goes back from {from} to {to}.")];
    if let Some(earlier) = recent(rollback) {
        lines.push(format!("  {earlier}: this goes back once more."));
    }
    lines.push(lost(rollback));
    lines.extend(
        rollback
            .lost_paths
            .iter()
            .take(NAMED)
            .map(|path| format!("    {path}")),
    );
    let named = rollback.lost_paths.len().min(NAMED);
    let more = usize::try_from(rollback.lost_path_count)
        .unwrap_or_default()
        .saturating_sub(named);
    if more > 0 && named > 0 {
        lines.push(format!(
            "    and {} more",
            words::count(i64::try_from(more).unwrap_or(i64::MAX))
        ));
    }
    lines.push(format!(
        "  Afterwards {} is held: nothing but a rollback deploys until you lift it (candlefish hold lift {place} --reason \"…\").",
        environment.slug
    ));
    lines.join("\n")
}

/// The rollback that brought what is live, when it is so recent that whoever asks may not know of it.
pub(crate) fn recent(rollback: &Rollback) -> Option<String> {
    let earlier = rollback.earlier.as_ref()?;
    let ago = words::length(earlier.ago.as_ref())?;
    if ago > RECENT {
        return None;
    }
    let now = rollback.from.as_ref().map_or("", |from| from.id.as_str());
    Some(format!(
        "{} rolled back {} ago, from {} to {}",
        earlier.by,
        words::about(ago),
        words::short(&earlier.left),
        words::short(now)
    ))
}

fn named(release: &Release, when: &str) -> String {
    let commit = words::short_commit(&release.commit);
    let commit = if commit.is_empty() {
        "no commit"
    } else {
        commit
    };
    format!("{} ({commit}{when})", words::short(&release.id))
}

/// How long the release that comes back was live, and until when; where nobody knows, when it was made.
fn was_live(rollback: &Rollback, to: &Release, look: &Look) -> String {
    let last = rollback.last_live.as_ref();
    let Some((last, since)) = last.and_then(|last| Some((last, last.since.as_ref()?))) else {
        let made = words::ago(to.created_at.as_ref(), &look.now);
        return format!(", made {made}");
    };
    let Some(length) = words::between(Some(since), last.until.as_ref()) else {
        return format!(", live {}", words::lasted(Some(since), &look.now));
    };
    let length = words::about(length);
    let from = rollback.from.as_ref();
    if from.is_some_and(|from| from.id == last.replaced_by) {
        format!(", live {length} before that")
    } else {
        let until = words::ago(last.until.as_ref(), &look.now);
        format!(", live {length} until {until}")
    }
}

fn lost(rollback: &Rollback) -> String {
    if rollback.loss_unknown {
        return "  What will not come back could not be told: the store does not answer."
            .to_owned();
    }
    match rollback.lost_path_count {
        0 => "  Nothing is lost: every page and file of now exists there too.".to_owned(),
        count => format!(
            "  What will not come back: {} created since will be gone.",
            words::counted(count, "page or file").replace("page or files", "pages and files")
        ),
    }
}
