//! `config import`: another's configuration as one of xlb's.

use std::{io::Read as _, path::Path};

use anyhow::Context;
use xlb_control::config::Config;

use super::{Exit, args::Output, args_config::ImportArgs, print};
use crate::import;

/// Prints the configuration, and says on stderr what is not in it.
pub(super) fn import(args: &ImportArgs, output: Output) -> anyhow::Result<Exit> {
    let text = text_of(&args.file)?;
    let imported = import::import(args.from, &text, args.interface.as_deref());
    print::answer(output, &imported, |imported, _| imported.config.clone())?;
    if output.is_for_people() {
        for note in &imported.notes {
            eprintln!("{}:{}: {}", args.file.display(), note.line, note.text);
        }
    }
    // What xlb does not take is said at once rather than by `check`.
    match Config::parse("the imported configuration", &imported.config) {
        Ok(_) => Ok(Exit::Well),
        Err(complaints) => {
            eprintln!("{}", complaints.render(false));
            Ok(Exit::NotWell)
        }
    }
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    let reading = || format!("read {}", path.display());
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .with_context(reading)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(reading)
}
