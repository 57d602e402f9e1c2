//! Verbs about this host where it is a backend: they need no agent, and ask none.

use xlb_control::api::InterfaceStatus;

use super::{Exit, args::Global, args_backend::HostVerb, print, tables};
use crate::{backend, logging};

pub(super) fn act(global: &Global, verb: HostVerb<'_>) -> anyhow::Result<Exit> {
    let pin_dir = global.backend_pin_dir()?;
    match verb {
        HostVerb::Run(args) => {
            logging::init(args.log)?;
            let config = std::path::absolute(&args.config)?;
            backend::run(config, pin_dir).map(|()| Exit::Well)
        }
        HostVerb::Status => {
            let Some(status) = backend::status(&pin_dir)? else {
                eprintln!(
                    "error: no program that unpacks packets is loaded at {}: start it with \
                     `xlb-agent backend run`",
                    pin_dir.display()
                );
                return Ok(Exit::AgentDown);
            };
            print::answer(global.output(), &status, tables::backend_host)?;
            Ok(wellness(&status.interfaces))
        }
        HostVerb::Unload => {
            let done = backend::unload(&pin_dir)?;
            print::answer(global.output(), &done, |done, _| {
                if done.is_empty() {
                    return "nothing to undo\n".to_owned();
                }
                done.iter().map(|line| format!("{line}\n")).collect()
            })?;
            Ok(Exit::Well)
        }
    }
}

fn wellness(interfaces: &[InterfaceStatus]) -> Exit {
    let takes_packets = |it: &InterfaceStatus| it.index != 0 && it.up && it.mode != "detached";
    if !interfaces.is_empty() && interfaces.iter().all(takes_packets) {
        Exit::Well
    } else {
        Exit::NotWell
    }
}
