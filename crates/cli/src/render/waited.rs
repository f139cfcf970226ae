//! What the time until a deployment was live went into, by cause.

use candlefish_proto::deploy::{Deployment, ListBlockersResponse, Waited};
use jiff::SignedDuration;

use super::{Look, Tone, blockers, pad, words};

const NAME: usize = 20;

/// The lead time, one line per cause with its part of that, the largest first, and what is left; no line
/// where the server does not tell it.
pub(crate) fn lines(
    deployment: &Deployment,
    ledger: &ListBlockersResponse,
    look: &Look,
) -> Vec<String> {
    let Some(lead) = words::length(ledger.lead_time.as_ref()) else {
        return Vec::new();
    };
    let until = if deployment.live_at.is_some() {
        "Until it was live"
    } else if words::is_terminal(deployment.state()) {
        "Until it ended"
    } else {
        "So far"
    };
    let mut causes: Vec<Cause> = ledger.waited.iter().map(Cause::of).collect();
    causes.sort_by_key(|cause| std::cmp::Reverse((cause.of_lead, cause.total)));
    let mut lines = vec![format!("  {until}: {}", words::duration(lead))];
    lines.extend(causes.iter().map(|cause| cause.line(lead, look)));
    let unblocked = words::length(ledger.unblocked.as_ref()).unwrap_or_default();
    if unblocked.is_positive() {
        lines.push(line("  nothing in its way", unblocked, lead));
    }
    lines
}

struct Cause {
    name: &'static str,
    of_lead: SignedDuration,
    total: SignedDuration,
}

impl Cause {
    fn of(waited: &Waited) -> Self {
        Self {
            name: blockers::name(waited.kind()),
            of_lead: words::length(waited.of_lead_time.as_ref()).unwrap_or_default(),
            total: words::length(waited.total.as_ref()).unwrap_or_default(),
        }
    }

    fn line(&self, lead: SignedDuration, look: &Look) -> String {
        let line = line(&format!("‖ {}", self.name), self.of_lead, lead);
        let total = words::duration(self.total);
        // It went on after that, as a bake does.
        if total == words::duration(self.of_lead) {
            return line;
        }
        let total = look.paint(Tone::Faint, &format!("{total} in all"));
        format!("{line}   {total}")
    }
}

fn line(name: &str, part: SignedDuration, lead: SignedDuration) -> String {
    format!(
        "  {}{:>14}{:>8}",
        pad(name, NAME),
        words::duration(part),
        share(part, lead)
    )
}

/// `38 %`, to the nearest; of no time there are no parts.
fn share(part: SignedDuration, lead: SignedDuration) -> String {
    let (part, lead) = (part.as_micros(), lead.as_micros());
    if lead <= 0 {
        return String::new();
    }
    match (part * 100 + lead / 2) / lead {
        ..=0 if part > 0 => "< 1 %".to_owned(),
        percent => format!("{percent} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_told_in_hundredths_and_never_as_none_where_there_is_some() {
        let lead = SignedDuration::from_secs(1000);
        for (part_ms, told) in [
            (0, "0 %"),
            (1, "< 1 %"),
            (4_999, "< 1 %"),
            (5_000, "1 %"),
            (954_000, "95 %"),
            (1_000_000, "100 %"),
        ] {
            let part = SignedDuration::from_millis(part_ms);
            assert_eq!(share(part, lead), told, "{part_ms} ms");
        }
        assert_eq!(share(SignedDuration::ZERO, SignedDuration::ZERO), "");
    }
}
