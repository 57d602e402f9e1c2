//! Changes made at run time, as `status` shows them.

use std::net::SocketAddr;

use xlb_control::{
    api::{Change, ChangeStatus},
    config::At,
};

use super::{Style, layout};
use crate::cli::values::name;

/// A line for each change.
pub(super) fn table(changes: &[ChangeStatus], style: Style) -> String {
    layout(
        style,
        ["CHANGE", "OF", "BACKEND", "VALUE", "EFFECT"],
        changes.iter().map(|kept| {
            let [change, of, backend, value] = cells(&kept.change);
            let effect = match &kept.stale {
                None => "in force".to_owned(),
                Some(reason) => format!("none: {reason}"),
            };
            [change, of, backend, value, effect]
        }),
    )
}

/// What is changed, of which pool or service, at which backend, and to what.
fn cells(change: &Change) -> [String; 4] {
    let of_backend = |verb: &str, pool: &str, endpoint: &SocketAddr, value: Option<String>| {
        [
            format!("backend-{verb}"),
            pool.to_owned(),
            endpoint.to_string(),
            value.unwrap_or_else(|| "-".to_owned()),
        ]
    };
    match change {
        Change::BackendAdd {
            pool,
            endpoint,
            weight,
        } => of_backend("add", pool, endpoint, Some(format!("weight {weight}"))),
        Change::BackendRemove {
            pool,
            endpoint,
            connections,
        } => of_backend("remove", pool, endpoint, connections.as_ref().map(name)),
        Change::BackendEnable { pool, endpoint } => of_backend("enable", pool, endpoint, None),
        Change::BackendDisable { pool, endpoint } => of_backend("disable", pool, endpoint, None),
        Change::BackendDrain {
            pool,
            endpoint,
            timeout_s,
        } => {
            let timeout = timeout_s.map(|seconds| format!("{seconds}s"));
            of_backend("drain", pool, endpoint, timeout)
        }
        Change::BackendUndrain { pool, endpoint } => of_backend("undrain", pool, endpoint, None),
        Change::BackendWeight {
            pool,
            endpoint,
            weight,
        } => of_backend("weight", pool, endpoint, Some(weight.to_string())),
        Change::ServiceAdd {
            name: service,
            vip,
            port,
            protocol,
            forward,
            pool,
        } => {
            let address = At {
                vip: *vip,
                ports: *port,
            };
            let (protocol, forward) = (name(protocol), name(forward));
            [
                "service-add".to_owned(),
                service.clone(),
                "-".to_owned(),
                format!("{address}/{protocol} {forward} {pool}"),
            ]
        }
        Change::ServiceRemove { name } => [
            "service-remove".to_owned(),
            name.clone(),
            "-".to_owned(),
            "-".to_owned(),
        ],
    }
}
