//! Answers of the agent as text: pure functions from values to what is printed.

mod backend_host;
mod backends;
mod changes;
mod diff;
mod explain;
mod health;
mod nat;
mod pinned;
mod services;
mod status;

use comfy_table::{Cell, Color, Table, presets::NOTHING};

pub(super) use backend_host::overview as backend_host;
pub(super) use backends::table as backends;
pub(super) use diff::differences as diff;
pub(super) use explain::explanation;
pub(super) use health::table as health;
pub(super) use nat::{connections as nat_connections, sources as nat_sources};
pub(super) use pinned::overview as pinned;
pub(super) use services::{show as service, table as services};
pub(super) use status::overview as status;

/// Spaces between two columns.
const GAP: u16 = 3;

/// How tables look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// Further columns are shown, and nothing is left out for the sake of brevity.
    pub(super) is_wide: bool,
    /// Words of state have colours.
    pub(super) has_colours: bool,
}

#[cfg(test)]
impl Style {
    pub(super) const PLAIN: Self = Self {
        is_wide: false,
        has_colours: false,
    };
    pub(super) const WIDE: Self = Self {
        is_wide: true,
        has_colours: false,
    };
}

/// A column, by its header.
#[derive(Clone, Copy, Debug)]
struct Column {
    header: &'static str,
    is_for_wide: bool,
}

impl From<&'static str> for Column {
    fn from(header: &'static str) -> Self {
        Self {
            header,
            is_for_wide: false,
        }
    }
}

/// A column of `-o wide` alone.
const fn wide(header: &'static str) -> Column {
    Column {
        header,
        is_for_wide: true,
    }
}

/// A column that is always there, among some that are not.
const fn always(header: &'static str) -> Column {
    Column {
        header,
        is_for_wide: false,
    }
}

/// Lays out rows under their headers, without borders, so that a line can be cut with `awk`. Lines
/// are not wrapped to the terminal: who greps for a backend finds all of it.
fn layout<const N: usize>(
    style: Style,
    columns: [impl Into<Column>; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let columns = columns.map(Into::into);
    let is_shown = |column: &Column| style.is_wide || !column.is_for_wide;
    let headers = columns.iter().filter(|column| is_shown(column));
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(headers.map(|column| column.header));
    for row in rows {
        let cells = columns.iter().zip(row);
        let shown = cells.filter(|(column, _)| is_shown(column));
        table.add_row(shown.map(|(column, text)| cell(column.header, text)));
    }
    if style.has_colours {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
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

fn cell(header: &str, text: String) -> Cell {
    let colour = colour(header, &text);
    let cell = Cell::new(text);
    match colour {
        Some(colour) => cell.fg(colour),
        None => cell,
    }
}

/// Green is well, red is broken, and yellow is what somebody should know.
fn colour(header: &str, text: &str) -> Option<Color> {
    if !["STATE", "HEALTH", "LINK", "MODE", "TO"].contains(&header) {
        return None;
    }
    match text {
        "up" => Some(Color::Green),
        "down" | "panic" | "missing" | "detached" | "unresolved" => Some(Color::Red),
        "degraded" | "draining" | "disabled" | "unknown" | "generic" => Some(Color::Yellow),
        _ => None,
    }
}

/// What stands in a cell that has nothing to say.
pub(super) fn or_dash(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_columns_are_for_wide() {
        let rows = || [["web".to_owned(), "7".to_owned()]];
        let columns = [always("POOL"), wide("NUMBER")];
        assert_eq!(layout(Style::PLAIN, columns, rows()), "POOL\nweb\n");
        assert_eq!(
            layout(Style::WIDE, columns, rows()),
            "POOL   NUMBER\nweb    7\n"
        );
    }

    #[test]
    fn colours_move_no_column() {
        let rows = || ["up", "degraded", "down"].map(|state| [state.to_owned(), "x".to_owned()]);
        let coloured = Style {
            has_colours: true,
            ..Style::PLAIN
        };
        let text = layout(coloured, ["STATE", "NAME"], rows());
        assert_eq!(text.matches('\u{1b}').count(), 6, "{text:?}");
        let mut bare = text;
        for code in [
            "\u{1b}[38;5;10m",
            "\u{1b}[38;5;11m",
            "\u{1b}[38;5;9m",
            "\u{1b}[39m",
        ] {
            bare = bare.replace(code, "");
        }
        assert_eq!(bare, layout(Style::PLAIN, ["STATE", "NAME"], rows()));
    }
}
