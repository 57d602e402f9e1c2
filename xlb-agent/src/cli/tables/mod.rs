//! Answers of the agent as text: pure functions from values to what is printed.

mod backend_host;
mod backends;
mod changes;
mod diff;
mod explain;
mod health;
mod services;
mod status;

use comfy_table::{Table, presets::NOTHING};

pub(super) use backend_host::overview as backend_host;
pub(super) use backends::table as backends;
pub(super) use diff::differences as diff;
pub(super) use explain::explanation;
pub(super) use health::table as health;
pub(super) use services::{show as service, table as services};
pub(super) use status::overview as status;

/// Spaces between two columns.
const GAP: u16 = 3;

/// Lays out rows under their headers, without borders, so that a line can be cut with `awk`. Lines
/// are not wrapped to the terminal: who greps for a backend finds all of it.
fn layout<const N: usize>(
    headers: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(headers);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What stands in a cell that has nothing to say.
fn or_dash(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".to_owned())
}
