//! Lists as columns.

use console::measure_text_width;

use super::pad;

/// Between two columns.
const GAP: &str = "  ";

/// A list with a head.
pub(crate) struct Table {
    /// The head, and a line for each row below it.
    lines: Vec<Vec<String>>,
}

impl Table {
    /// An empty list with these columns.
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self {
            lines: vec![Vec::from(head.map(str::to_owned))],
        }
    }

    /// One more line, whatever lines its cells have.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        let cells = cells.map(|cell| cell.replace('\n', " "));
        self.lines.push(Vec::from(cells));
    }

    /// The list, or what to say when it is empty.
    pub(crate) fn text(&self, empty: &str) -> String {
        if self.lines.len() < 2 {
            return empty.to_owned();
        }
        let widths = self.widths();
        let lines = self.lines.iter().map(|cells| {
            let cells = cells.iter().zip(&widths);
            let padded: Vec<String> = cells.map(|(cell, width)| pad(cell, *width)).collect();
            padded.join(GAP).trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// How wide each column is on a screen, where colours take no room.
    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for cells in &self.lines {
            widths.resize(widths.len().max(cells.len()), 0);
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = measure_text_width(cell).max(*width);
            }
        }
        widths
    }
}
