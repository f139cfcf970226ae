//! A deployment's waits and steps against time, from the stored times.

use candlefish_proto::deploy::{Blocker, Deployment, ListBlockersResponse, Step, blocker::Kind};
use jiff::Timestamp;

use super::{Look, Tone, blockers, deployment, pad, steps, waited, words};

const NAME: usize = 20;
const TIMES: usize = 32;

/// A waterfall: when each step began, how long it took, and what kept the deployment for how long. Above
/// it stands what keeps its environment now ([`kept`](super::environment::kept)), below it what the lead
/// time went into ([`waited`]).
pub(crate) fn text(
    deployment: &Deployment,
    ledger: &ListBlockersResponse,
    kept: &[String],
    look: &Look,
) -> String {
    let mut lines = vec![deployment::head(deployment, look)];
    lines.extend_from_slice(kept);
    if !deployment.trace_id.is_empty() {
        lines.push(deployment::labelled(
            "Trace",
            &deployment.trace_id,
            "",
            look,
        ));
    }
    lines.push(String::new());
    let Some(start) = words::moment(deployment.created_at.as_ref()) else {
        return lines.join("\n");
    };
    let now = look.now.timestamp();
    let ends = deployment
        .steps
        .iter()
        .filter_map(|step| words::moment(step.finished_at.as_ref()));
    let end = words::moment(deployment.finished_at.as_ref());
    let running = !words::is_terminal(deployment.state());
    let end = ends
        .chain(end)
        .chain(running.then_some(now))
        .max()
        .unwrap_or(start);
    let scale = Scale {
        start,
        total: span(start, end).max(1),
        width: bar_width(look),
    };
    // The intervals of steps are shown by the steps themselves. What keeps it besides the first that
    // stands comes after that, and is charged with no time: the bars add up.
    let charged = ledger.blockers.iter().take(charged(&ledger.blockers));
    let blockers = charged.filter(|one| one.kind() != Kind::Timer);
    let waits = blockers.filter_map(|one| wait(one, deployment));
    let steps = deployment.steps.iter().filter_map(|step| bar(step, look));
    let mut bars: Vec<Bar> = waits.chain(steps).collect();
    bars.sort_by_key(|bar| bar.from);
    lines.extend(bars.iter().map(|bar| scale.line(bar, now, look)));
    lines.push(String::new());
    lines.push(format!(
        "  {} in all",
        words::duration(start.duration_until(end))
    ));
    lines.extend(undrawn(deployment, ledger));
    let waited = waited::lines(deployment, ledger, look);
    if !waited.is_empty() {
        lines.push(String::new());
    }
    lines.extend(waited);
    lines.join("\n")
}

/// Where the waits are that no bar shows.
fn undrawn(deployment: &Deployment, ledger: &ListBlockersResponse) -> Option<String> {
    let token = &ledger.next_page_token;
    (!token.is_empty()).then(|| {
        format!(
            "  Earlier waits: GET /v1/deployments/{}/blockers?page_token={token}",
            deployment.id
        )
    })
}

/// How many of them time is, or was, charged to.
fn charged(all: &[Blocker]) -> usize {
    let first = all.iter().position(blockers::stands);
    first.map_or(all.len(), |first| first + 1)
}

struct Bar {
    name: String,
    from: Timestamp,
    to: Option<Timestamp>,
    tone: Tone,
}

/// What kept it: until it was cleared, or the deployment was over.
fn wait(blocker: &Blocker, deployment: &Deployment) -> Option<Bar> {
    let to = blocker.cleared_at.as_ref();
    let tone = if blockers::stands(blocker) {
        Tone::Wait
    } else {
        Tone::Faint
    };
    Some(Bar {
        name: format!("‖ {}", blockers::name(blocker.kind())),
        from: words::moment(blocker.since.as_ref())?,
        to: words::moment(to.or(deployment.finished_at.as_ref())),
        tone,
    })
}

fn bar(step: &Step, look: &Look) -> Option<Bar> {
    let (glyph, tone) = steps::glyph(step, look);
    Some(Bar {
        name: format!("{glyph} {}", steps::name(step)),
        from: words::moment(step.started_at.as_ref())?,
        to: words::moment(step.finished_at.as_ref()),
        tone,
    })
}

fn bar_width(look: &Look) -> usize {
    look.width
        .saturating_sub(2 + NAME + TIMES + 4)
        .clamp(10, 120)
}

/// Milliseconds between two moments.
fn span(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(from.duration_until(to).as_millis()).unwrap_or_default()
}

struct Scale {
    start: Timestamp,
    total: u64,
    width: usize,
}

impl Scale {
    fn line(&self, bar: &Bar, now: Timestamp, look: &Look) -> String {
        let to = bar.to.unwrap_or(now);
        let from = self.column(span(self.start, bar.from)).min(self.width - 1);
        // The shortest step is still seen.
        let cells = self.column(span(bar.from, to)).clamp(1, self.width - from);
        let drawn = look.paint(bar.tone, &"█".repeat(cells));
        let rest = self.width - from - cells;
        let begun = words::duration(self.start.duration_until(bar.from));
        let took = words::duration(bar.from.duration_until(to));
        let took = if bar.to.is_none() {
            format!("{took} so far")
        } else {
            took
        };
        format!(
            "  {}│{:from$}{drawn}{:rest$}│ {begun:>11} {took:>18}",
            pad(&bar.name, NAME),
            "",
            ""
        )
    }

    fn column(&self, ms: u64) -> usize {
        let width = u64::try_from(self.width).unwrap_or(u64::MAX);
        usize::try_from(ms.saturating_mul(width) / self.total).unwrap_or(self.width)
    }
}
