//! What people read.

use super::report::Expectation;

/// Prints for people: on stdout, or on stderr if stdout is for a program.
pub(super) struct Show {
    on_stderr: bool,
}

impl Show {
    pub(super) const fn new(on_stderr: bool) -> Self {
        Self { on_stderr }
    }

    /// The title of a section.
    pub(super) fn title(&self, text: &str) {
        self.print(&format!("\n{text}"));
    }

    /// A line of a section.
    pub(super) fn line(&self, text: &str) {
        self.print(&format!("  {text}"));
    }

    /// What was expected, and what was.
    pub(super) fn table(&self, expectations: &[Expectation]) {
        self.title("Summary");
        let width = expectations
            .iter()
            .map(|row| row.what.len())
            .max()
            .unwrap_or(0);
        let measured = expectations
            .iter()
            .map(|row| row.measured.len())
            .max()
            .unwrap_or(0);
        let required = expectations
            .iter()
            .map(|row| row.required.len())
            .max()
            .unwrap_or(0);
        for row in expectations {
            self.line(&format!(
                "{:width$}  {:>measured$}  {:>required$}  {}",
                row.what,
                row.measured,
                row.required,
                if row.holds { "holds" } else { "DOES NOT HOLD" }
            ));
        }
    }

    fn print(&self, text: &str) {
        if self.on_stderr {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }
}
