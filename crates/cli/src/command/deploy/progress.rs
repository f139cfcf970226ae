//! Work that takes its time, before there is a deployment: a bar that moves where somebody sees it, and
//! lines where nobody does.

use std::{pin::pin, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::{
    app::App,
    render::{changes, words},
};

/// How often work that nobody sees moving says how far it is.
const EVERY: Duration = Duration::from_secs(10);

/// How far work is, in bytes.
pub(super) fn bar(app: &App, what: &str) -> ProgressBar {
    let template = format!("  {what:<13}{{bar:40}} {{bytes}} of {{total_bytes}}");
    let style = ProgressStyle::with_template(&template).expect("the template is ours");
    ProgressBar::with_draw_target(Some(0), target(app)).with_style(style)
}

/// Shows that the server is at work, which does not say how far it is.
pub(super) fn spinner(app: &App, what: &str) -> ProgressBar {
    let spinner = ProgressBar::with_draw_target(None, target(app));
    let template = format!("  {what:<13}{{spinner}} {{elapsed}}");
    let style = ProgressStyle::with_template(&template).expect("the template is ours");
    spinner.set_style(style);
    spinner.enable_steady_tick(Duration::from_millis(200));
    spinner
}

fn target(app: &App) -> ProgressDrawTarget {
    if app.output.animates() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    }
}

/// Waits for work. Where its bar is not drawn, a line says that it begins, and one every ten seconds
/// how far it is, also when it stands still.
pub(super) async fn told<T>(
    app: &App,
    what: &str,
    bar: &ProgressBar,
    work: impl Future<Output = T>,
) -> T {
    if app.output.animates() {
        return work.await;
    }
    let say = |words: &str| {
        let line = changes::work(words, &app.output.look_err());
        app.output.note(&line);
    };
    say(what);
    every(EVERY, work, || say(&far(what, bar))).await
}

async fn every<T>(pause: Duration, work: impl Future<Output = T>, say: impl Fn()) -> T {
    let mut work = pin!(work);
    let mut ticks = interval_at(Instant::now() + pause, pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = ticks.tick() => say(),
        }
    }
}

fn far(what: &str, bar: &ProgressBar) -> String {
    match bar.length() {
        Some(all) if all > 0 => format!(
            "{what}: {} of {}",
            words::bytes(bar.position()),
            words::bytes(all)
        ),
        _ => format!("{what} goes on"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_that_takes_its_time_says_how_far_it_is_again_and_again() {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        let (told, mut lines) = mpsc::unbounded_channel();
        let work = async {
            let mut seen = Vec::new();
            while seen.len() < 3 {
                seen.extend(lines.recv().await);
                bar.set_length(38_200_000);
                bar.inc(12_000_000);
            }
            seen
        };
        let say = || told.send(far("hashing", &bar)).unwrap();
        let seen = every(Duration::from_millis(1), work, say).await;
        let expected = [
            "hashing goes on",
            "hashing: 12.0 MB of 38.2 MB",
            "hashing: 24.0 MB of 38.2 MB",
        ];
        assert_eq!(seen, expected);
    }
}
