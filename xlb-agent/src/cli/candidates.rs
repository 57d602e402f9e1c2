//! Names that a running agent knows, for completion in a shell. Where none answers there are none.

use std::{env, path::PathBuf, time::Duration};

use clap_complete::CompletionCandidate;
use xlb_control::api::{BackendStatus, Client, ServiceStatus};

use super::client::block_on;
use crate::options::DEFAULT_SOCKET;

/// Somebody waits at a prompt.
const PATIENCE: Duration = Duration::from_millis(500);

fn client() -> Client {
    let socket = env::var_os("XLB_SOCKET").map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from);
    Client::new(socket).with_timeout(PATIENCE)
}

fn known_services() -> Vec<ServiceStatus> {
    block_on(async { Ok(client().services().await?) }).unwrap_or_default()
}

fn known_backends() -> Vec<BackendStatus> {
    block_on(async { Ok(client().backends().await?) }).unwrap_or_default()
}

/// Names of services.
pub(super) fn services() -> Vec<CompletionCandidate> {
    let services = known_services().into_iter();
    services
        .map(|service| CompletionCandidate::new(service.name))
        .collect()
}

/// Names of pools.
pub(super) fn pools() -> Vec<CompletionCandidate> {
    let mut pools: Vec<String> = known_backends().into_iter().map(|it| it.pool).collect();
    pools.dedup();
    pools.into_iter().map(CompletionCandidate::new).collect()
}

/// Addresses and ports of backends, of all pools.
pub(super) fn backends() -> Vec<CompletionCandidate> {
    let backends = known_backends().into_iter();
    backends
        .map(|it| CompletionCandidate::new(it.endpoint.to_string()).help(Some(it.pool.into())))
        .collect()
}
