//! From what the API answers to text. Pure: the width, the colour and the time are given.

use console::{measure_text_width, truncate_str};
use jiff::Zoned;
use owo_colors::Style;

pub(crate) mod access;
pub(crate) mod blockers;
pub(crate) mod changes;
pub(crate) mod deployment;
pub(crate) mod ending;
pub(crate) mod environment;
pub(crate) mod events;
pub(crate) mod failure;
pub(crate) mod history;
pub(crate) mod lane;
pub(crate) mod push;
pub(crate) mod release;
pub(crate) mod repeat;
pub(crate) mod rollback;
pub(crate) mod site;
pub(crate) mod steps;
pub(crate) mod stop;
pub(crate) mod table;
pub(crate) mod timeline;
pub(crate) mod waited;
pub(crate) mod words;
pub(crate) mod would;

/// How text may look where it goes.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// Columns.
    pub(crate) width: usize,
    /// Rows, when it is a screen.
    pub(crate) height: Option<usize>,
    /// Whether lines are cut at the width: where they are drawn again in place, one that takes two rows
    /// is never drawn over.
    pub(crate) cuts: bool,
    /// Whether colours are shown.
    pub(crate) colour: bool,
    /// The time, in the reader's zone.
    pub(crate) now: Zoned,
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Went well.
    Good,
    /// Went wrong.
    Bad,
    /// Waits for somebody.
    Wait,
    /// Of less weight.
    Faint,
    /// As text is.
    Usual,
}

impl Look {
    /// The text in a tone.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        let style = match tone {
            Tone::Good => Style::new().green(),
            Tone::Bad => Style::new().red(),
            Tone::Wait => Style::new().yellow(),
            Tone::Faint => Style::new().dimmed(),
            Tone::Usual => return text.to_owned(),
        };
        if self.colour && !text.is_empty() {
            style.style(text).to_string()
        } else {
            text.to_owned()
        }
    }

    /// One line with a text at its right end. Where lines are cut, the left text loses what has no room;
    /// elsewhere nothing is lost.
    pub(crate) fn line(&self, left: &str, right: &str) -> String {
        let taken = if right.is_empty() {
            0
        } else {
            measure_text_width(right) + 2
        };
        let room = self.width.saturating_sub(taken);
        let left = left.trim_end();
        let left = if self.cuts {
            truncate_str(left, room, "…")
        } else {
            left.into()
        };
        if right.is_empty() {
            return left.into_owned();
        }
        let gap = room.saturating_sub(measure_text_width(&left)) + 2;
        format!("{left}{:gap$}{right}", "")
    }
}

/// The list, and below it that it has been cut at a limit and how to see more of it.
pub(crate) fn limited(list: String, more: &str, next_page_token: &str, limit: usize) -> String {
    if next_page_token.is_empty() {
        return list;
    }
    let larger = limit.max(1).saturating_mul(10);
    format!("{list}\nThere are more {more}: --limit {larger}")
}

/// Fills a text with spaces up to a width.
fn pad(text: &str, width: usize) -> String {
    let gap = width.saturating_sub(measure_text_width(text));
    format!("{text}{:gap$}", "")
}

#[cfg(test)]
mod tests;
