//! `service`: what its verbs take, and the changes that they ask for.

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use xlb_control::{
    api::Change,
    config::{Forward, Ports, Protocol, Vip},
};

use super::{candidates, values};

/// Verbs of `service`.
#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    /// List services with their health and traffic.
    #[command(after_help = "Example:\n  xlb-agent service list -o json")]
    List,
    /// Show one service.
    #[command(after_help = "Example:\n  xlb-agent service show web")]
    Show(ServiceName),
    /// Add a service in front of a pool that exists.
    ///
    /// The change outlives the agent.
    #[command(after_help = "\
Example:
  xlb-agent service add web --vip 192.0.2.10 --port 443 --protocol tcp --forward dnat --pool web")]
    Add(ServiceAddArgs),
    /// Remove a service, which ends its connections; its pool stays.
    #[command(after_help = "Example:\n  xlb-agent service remove web")]
    Remove(ServiceName),
}

/// The service that is meant.
#[derive(Debug, Args)]
pub(super) struct ServiceName {
    /// The name of the service.
    #[arg(add = ArgValueCandidates::new(candidates::services))]
    pub(super) name: String,
}

/// What `service add` takes.
#[derive(Debug, Args)]
pub(super) struct ServiceAddArgs {
    /// The name of the service, which no other service has.
    name: String,
    /// Virtual IP address, or a prefix of such: 192.0.2.0/28.
    #[arg(long, value_name = "ADDR")]
    vip: Vip,
    /// Virtual port, from 1 to 65535, a range of them such as 8000-8999, or all.
    #[arg(long)]
    port: Ports,
    /// Transport protocol: tcp, udp or sctp.
    #[arg(long, default_value = "tcp", value_parser = values::named::<Protocol>)]
    protocol: Protocol,
    /// How packets reach the backends: dnat, l2-dsr, ipip or gue.
    #[arg(long, value_parser = values::named::<Forward>)]
    forward: Forward,
    /// The pool behind the service, or a service whose pool is meant.
    #[arg(long)]
    pub(super) pool: String,
}

impl ServiceName {
    /// The change that removes the service.
    pub(super) fn removal(&self) -> Change {
        Change::ServiceRemove {
            name: self.name.clone(),
        }
    }
}

impl ServiceAddArgs {
    /// The change as the control API takes it, with the name of the pool that was found.
    pub(super) fn change(&self, pool: &str) -> Change {
        Change::ServiceAdd {
            name: self.name.clone(),
            vip: self.vip,
            port: self.port,
            protocol: self.protocol,
            forward: self.forward,
            pool: pool.to_owned(),
        }
    }
}
