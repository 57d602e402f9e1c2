//! `diff`, and `reload --dry-run`: what a configuration would change.

use std::path::Path;

use xlb_control::{
    api::{Client, ConfigText, DiffRequest},
    config::{self, Config, ConfigError},
};

use super::{Exit, args::Global, check, client, print, tables};

/// Asks the agent what a file would change, or, without one, the agent's own.
///
/// Whatever goes wrong is printed here and is [`Exit::Trouble`], as it is for diff(1): 1 says that
/// something would change.
pub(super) fn diff(global: &Global, file: Option<&Path>) -> anyhow::Result<Exit> {
    let config = match file.map(text_of).transpose() {
        Ok(config) => config,
        Err(error) => {
            check::complain_of(&error);
            return Ok(Exit::Trouble);
        }
    };
    let asked = client::block_on(async {
        let client = Client::new(&global.socket);
        Ok(client.diff(&DiffRequest { config }).await?)
    });
    let diff = match asked {
        Ok(diff) => diff,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(Exit::Trouble);
        }
    };
    print::answer(global.output(), &diff, |diff, _| tables::diff(diff))?;
    if global.output().is_for_people() {
        for warning in &diff.warnings {
            eprintln!("warning: {warning}");
        }
    }
    Ok(if diff.is_empty() {
        Exit::Well
    } else {
        Exit::Differs
    })
}

/// The text of a file that the agent would take. The agent judges it too, but what is wrong with
/// it is for this terminal.
fn text_of(path: &Path) -> Result<ConfigText, ConfigError> {
    let name = path.display().to_string();
    let text = config::read(path)?;
    match Config::parse(&name, &text) {
        Ok(_) => Ok(ConfigText { name, text }),
        Err(complaints) => Err(ConfigError::Invalid(complaints)),
    }
}
