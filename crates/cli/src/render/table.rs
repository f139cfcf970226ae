//! Lists as columns.

use comfy_table::{ContentArrangement, Table as Columns, presets::NOTHING};

/// A list with a head.
pub(crate) struct Table {
    columns: Columns,
    rows: usize,
}

impl Table {
    /// An empty list with these columns.
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        let mut columns = Columns::new();
        columns
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(head);
        Self { columns, rows: 0 }
    }

    /// One more line.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.columns.add_row(cells);
        self.rows += 1;
    }

    /// The list, or what to say when it is empty.
    pub(crate) fn text(&self, empty: &str) -> String {
        if self.rows == 0 {
            return empty.to_owned();
        }
        let lines = self.columns.lines().map(|line| {
            line.trim_end()
                .strip_prefix(' ')
                .map_or_else(String::new, str::to_owned)
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}
