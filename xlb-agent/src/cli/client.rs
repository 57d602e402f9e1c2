//! Commands that are requests to the agent.

use std::path::Path;

use anyhow::Context;
use xlb_control::api::{Client, ClientError, ServiceHealth, Status};

use super::{
    Exit,
    args::{Global, Output},
    args_backend::{BackendCommand, BackendRequest},
    args_nat::NatCommand,
    args_service::ServiceCommand,
    backend_host, drain, names, print, tables,
};
use crate::{daemon, options::DEFAULT_CONFIG};

/// Runs a conversation with the agent to its end.
pub(super) fn block_on<T>(
    conversation: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the client's event loop")?
        .block_on(conversation)
}

pub(super) fn status(global: &Global) -> anyhow::Result<Exit> {
    block_on(async {
        match Client::new(&global.socket).status().await {
            Ok(status) => {
                print::answer(global.output(), &status, tables::status)?;
                Ok(wellness(&status))
            }
            // One that hangs is as good as none to who watches.
            Err(error) if is_agent_down(&error) || matches!(error, ClientError::Timeout { .. }) => {
                eprintln!("error: {:#}", anyhow::Error::from(error));
                show_what_is_pinned(global)?;
                Ok(Exit::AgentDown)
            }
            Err(error) => Err(error.into()),
        }
    })
}

/// Prints what the maps say by themselves, as far as they can be read.
fn show_what_is_pinned(global: &Global) -> anyhow::Result<()> {
    let options = global.options(Path::new(DEFAULT_CONFIG))?;
    match daemon::pinned_status(&options) {
        Ok(status) => print::answer(global.output(), &status, tables::pinned),
        Err(error) => {
            eprintln!("the pinned maps can't be read either: {error:#}");
            Ok(())
        }
    }
}

/// Whether nothing in a status asks for the operator.
fn wellness(status: &Status) -> Exit {
    let interfaces_take_packets = status
        .interfaces
        .iter()
        .all(|interface| interface.index != 0 && interface.up && interface.mode != "detached");
    let services_are_up = match status.health {
        ServiceHealth::Up => true,
        ServiceHealth::Degraded | ServiceHealth::Panic | ServiceHealth::Down => false,
    };
    if services_are_up && interfaces_take_packets && status.last_reload_error.is_none() {
        Exit::Well
    } else {
        Exit::NotWell
    }
}

pub(super) fn is_agent_down(error: &ClientError) -> bool {
    matches!(error, ClientError::AgentDown { .. })
}

pub(super) fn health(global: &Global, service: Option<&str>) -> anyhow::Result<Exit> {
    block_on(async {
        let client = Client::new(&global.socket);
        if let Some(name) = service {
            names::service(name, &client.services().await?)?;
        }
        let health = client.health(service).await?;
        print::answer(global.output(), health.as_slice(), tables::health)?;
        Ok(Exit::Well)
    })
}

pub(super) fn reload(global: &Global) -> anyhow::Result<Exit> {
    block_on(async {
        let changed = Client::new(&global.socket).reload().await?;
        print::changed(global.output(), &changed)?;
        Ok(Exit::Well)
    })
}

pub(super) fn nat(global: &Global, command: &NatCommand) -> anyhow::Result<Exit> {
    let client = Client::new(&global.socket);
    block_on(async {
        match command {
            NatCommand::List(args) => {
                let status = client.nat(args.service.as_deref(), args.limit).await?;
                print::answer(global.output(), &status, tables::nat_connections)?;
            }
            NatCommand::Sources => {
                let status = client.nat(None, 0).await?;
                print::answer(global.output(), &status, tables::nat_sources)?;
            }
        }
        Ok(Exit::Well)
    })
}

pub(super) fn backend(global: &Global, command: &BackendCommand) -> anyhow::Result<Exit> {
    let request = command.request();
    if let BackendRequest::Host(verb) = request {
        return backend_host::act(global, verb);
    }
    let client = Client::new(&global.socket);
    block_on(async {
        match request {
            BackendRequest::Host(_) => {}
            BackendRequest::List { pool } => {
                list_backends(&client, global.output(), pool).await?;
            }
            BackendRequest::Change {
                pool,
                endpoint,
                edit,
                wait,
            } => {
                let changed = client.change(&edit.of(pool, endpoint)).await?;
                print::changed(global.output(), &changed)?;
                if wait {
                    let pool = find_pool(&client, pool).await?;
                    drain::wait(&client, &pool, endpoint).await?;
                }
            }
        }
        Ok(Exit::Well)
    })
}

async fn list_backends(client: &Client, output: Output, pool: Option<&str>) -> anyhow::Result<()> {
    let mut backends = client.backends().await?;
    if let Some(name) = pool {
        let pool = find_pool(client, name).await?;
        backends.retain(|backend| backend.pool == pool);
    }
    print::answer(output, backends.as_slice(), tables::backends)
}

/// The pool that a name means, which may be that of a service in front of it. A change need not ask:
/// the agent takes either, and a whole status is much work where there are many services.
async fn find_pool(client: &Client, name: &str) -> anyhow::Result<String> {
    let status = client.status().await?;
    Ok(names::pool(name, &status)?.to_owned())
}

pub(super) fn service(global: &Global, command: &ServiceCommand) -> anyhow::Result<Exit> {
    let client = Client::new(&global.socket);
    let output = global.output();
    block_on(async {
        match command {
            ServiceCommand::List => {
                let services = client.services().await?;
                print::answer(output, services.as_slice(), tables::services)?;
            }
            ServiceCommand::Show(args) => {
                let services = client.services().await?;
                let service = names::service(&args.name, &services)?;
                print::answer(output, service, tables::service)?;
            }
            ServiceCommand::Add(args) => {
                print::changed(output, &client.change(&args.change(&args.pool)).await?)?;
            }
            ServiceCommand::Remove(args) => {
                print::changed(output, &client.change(&args.removal()).await?)?;
            }
        }
        Ok(Exit::Well)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    fn well() -> Status {
        let mut status = samples::status();
        status.health = ServiceHealth::Up;
        status.last_reload_error = None;
        status
    }

    #[test]
    fn all_well_is_well() {
        assert_eq!(wellness(&well()), Exit::Well);
    }

    #[test]
    fn each_trouble_is_seen() {
        let troubles: [fn(&mut Status); 6] = [
            |status| status.health = ServiceHealth::Degraded,
            |status| status.health = ServiceHealth::Panic,
            |status| status.last_reload_error = Some("no such file".to_owned()),
            |status| status.interfaces[0].up = false,
            |status| status.interfaces[0].index = 0,
            |status| status.interfaces[0].mode = "detached".to_owned(),
        ];
        for trouble in troubles {
            let mut status = well();
            trouble(&mut status);
            assert_eq!(wellness(&status), Exit::NotWell, "{status:?}");
        }
    }
}
