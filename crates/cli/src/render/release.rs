//! A release: the content and the commit it was built from.

use candlefish_proto::deploy::{ListReleasesResponse, Release, release::State};

use super::{Look, Tone, table::Table, words};

/// `4ac21e0 "Fix install page", Ada Byron, main`.
pub(crate) fn origin(release: &Release) -> String {
    let mut parts = Vec::new();
    let commit = words::short_commit(&release.commit);
    match (commit.is_empty(), release.message.is_empty()) {
        (true, true) => parts.push("no commit".to_owned()),
        (true, false) => parts.push(format!("\"{}\"", release.message)),
        (false, true) => parts.push(commit.to_owned()),
        (false, false) => parts.push(format!("{commit} \"{}\"", release.message)),
    }
    if !release.author.is_empty() {
        parts.push(release.author.clone());
    }
    parts.extend(release.branches.first().cloned());
    if release.dirty {
        parts.push("with uncommitted changes".to_owned());
    }
    parts.join(", ")
}

/// `"Fix install page"`, or the commit, or the id: what a person calls it.
pub(crate) fn title(release: &Release) -> String {
    if !release.message.is_empty() {
        return format!("\"{}\"", release.message);
    }
    if release.commit.is_empty() {
        words::short(&release.id)
    } else {
        words::short_commit(&release.commit).to_owned()
    }
}

/// The releases of a site; `all` when nothing narrowed them.
pub(crate) fn list(answer: &ListReleasesResponse, all: bool, look: &Look) -> String {
    let mut table = Table::new([
        "RELEASE", "COMMIT", "WHAT", "FILES", "SIZE", "BEGUN", "STATE",
    ]);
    for release in &answer.releases {
        let state = match release.state() {
            State::Draft => look.paint(Tone::Wait, "content missing"),
            State::Sealed | State::Unspecified => rejections(release, look),
        };
        table.row([
            release.id.clone(),
            format!(
                "{}{}",
                words::short_commit(&release.commit),
                if release.dirty { " +" } else { "" }
            ),
            words::shorten(&release.message, 40),
            words::count(release.file_count),
            words::bytes(u64::try_from(release.byte_count).unwrap_or_default()),
            words::ago(release.created_at.as_ref(), &look.now),
            state,
        ]);
    }
    table.text(if all {
        "There is no release yet. Make one: candlefish deploy DIR --site SITE"
    } else {
        "There is no release of this commit."
    })
}

fn rejections(release: &Release, look: &Look) -> String {
    if release.collected_at.is_some() {
        let when = words::ago(release.collected_at.as_ref(), &look.now);
        return look.paint(Tone::Faint, &format!("content collected {when}"));
    }
    if let Some(ban) = &release.ban {
        return look.paint(Tone::Bad, &format!("banned by {}: {}", ban.by, ban.reason));
    }
    let environments: Vec<_> = release
        .rejections
        .iter()
        .map(|r| r.environment.as_str())
        .collect();
    if environments.is_empty() {
        return String::new();
    }
    look.paint(
        Tone::Bad,
        &format!("rejected in {}", environments.join(", ")),
    )
}

/// What clearing a rejection means.
pub(crate) fn cleared(release: &Release, environment: &str) -> String {
    format!(
        "{} may be deployed to {}/{environment} again.",
        words::short(&release.id),
        release.site
    )
}

/// Asks before a release is banned.
pub(crate) fn bans(release: &Release) -> String {
    format!(
        "  Ban {} of {} ({})? It goes nowhere from then on; what waits with it, or acts and is not live \
         yet, ends.",
        release.id,
        release.site,
        origin(release)
    )
}

/// What a ban means.
pub(crate) fn banned(release: &Release) -> String {
    let id = &release.id;
    format!(
        "{id} goes nowhere from now on; what waits with it, or acts and is not live yet, ends, and its \
         traffic goes back. Where it is live it stays until a rollback, cancel or abort.\n\
         lift: candlefish releases unban {id} --reason \"…\""
    )
}

/// What lifting a ban means.
pub(crate) fn unbanned(release: &Release) -> String {
    let done = format!("{} is no longer banned.", words::short(&release.id));
    let environments: Vec<_> = release
        .rejections
        .iter()
        .map(|one| one.environment.as_str())
        .collect();
    if environments.is_empty() {
        return done;
    }
    format!("{done} Still rejected in {}.", environments.join(", "))
}
