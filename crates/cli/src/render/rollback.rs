//! What a rollback will do, before it is asked for.

use candlefish_proto::deploy::{Environment, Release, Rollback};

use super::{Look, words};

/// Paths that are named; the rest is counted.
const NAMED: usize = 5;

/// What goes back to what, what will be gone, and what holds afterwards.
pub(crate) fn forecast(rollback: &Rollback, environment: &Environment, look: &Look) -> String {
    let place = format!("{}/{}", environment.site, environment.slug);
    if rollback.already {
        let id = rollback
            .deployment
            .as_ref()
            .map(|d| d.id.as_str())
            .unwrap_or_default();
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
        .map(|release| named(release, &made(release, look)))
        .unwrap_or_default();
    let mut lines = vec![
        format!("  {place} goes back from {from} to {to}."),
        lost(rollback),
    ];
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

fn named(release: &Release, when: &str) -> String {
    let commit = words::short_commit(&release.commit);
    let commit = if commit.is_empty() {
        "no commit"
    } else {
        commit
    };
    format!("{} ({commit}{when})", words::short(&release.id))
}

fn made(release: &Release, look: &Look) -> String {
    format!(
        ", made {}",
        words::ago(release.created_at.as_ref(), &look.now)
    )
}

fn lost(rollback: &Rollback) -> String {
    match rollback.lost_path_count {
        0 => "  Nothing is lost: every page and file of now exists there too.".to_owned(),
        count => format!(
            "  What will not come back: {} created since will be gone.",
            words::counted(count, "page or file").replace("page or files", "pages and files")
        ),
    }
}
