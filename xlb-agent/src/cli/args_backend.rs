//! `backend`: what its verbs take, and the changes that they ask for.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use xlb_control::{api::Change, config::OnRemove};

use super::{candidates, values};
use crate::{logging::LogFormat, options::DEFAULT_BACKEND_CONFIG};

/// Verbs of `backend`.
#[derive(Debug, Subcommand)]
pub(super) enum BackendCommand {
    /// List backends with their state, slots and traffic.
    #[command(after_help = "Example:\n  xlb-agent backend list web -o json")]
    List(ListArgs),
    /// Add a backend to a pool.
    ///
    /// It gets its share of new connections; established ones stay where they are. The change
    /// outlives the agent.
    #[command(after_help = "Example:\n  xlb-agent backend add web 10.0.1.7:8080 --weight 2")]
    Add(AddArgs),
    /// Remove a backend from a pool.
    ///
    /// Without --drop or --drain, the pool's `on_remove` says what becomes of its connections.
    #[command(after_help = "Example:\n  xlb-agent backend remove web 10.0.1.7:8080 --drain")]
    Remove(RemoveArgs),
    /// Let a backend that was disabled serve again.
    #[command(after_help = "Example:\n  xlb-agent backend enable web 10.0.1.7:8080")]
    Enable(Target),
    /// Take a backend out of service at once, which breaks its connections.
    #[command(after_help = "Example:\n  xlb-agent backend disable web 10.0.1.7:8080")]
    Disable(Target),
    /// Send no new connection to a backend, and keep those that it has.
    ///
    /// With --wait the command ends when no connection is left on the backend, and shows on stderr
    /// how many slots of the ring still lead there. Most connections are recorded nowhere: the agent
    /// sees that a slot has none left when it has not been used for the pool's idle timeout.
    #[command(
        after_help = "Example:\n  xlb-agent backend drain web 10.0.1.7:8080 --wait --timeout 5m"
    )]
    Drain(DrainArgs),
    /// Let a backend that drains serve again.
    #[command(after_help = "Example:\n  xlb-agent backend undrain web 10.0.1.7:8080")]
    Undrain(Target),
    /// Give a backend another share of new connections.
    #[command(after_help = "Example:\n  xlb-agent backend weight web 10.0.1.7:8080 3")]
    Weight(WeightArgs),
    /// Make this host a backend that unpacks what balancers send it.
    ///
    /// It attaches an XDP program that takes packets out of the headers that balancers put around
    /// them (`forward = "ipip"` or `"gue"`), puts the VIPs on the loopback interface, and keeps the host from
    /// answering ARP for them. SIGHUP reads the file again. SIGTERM and SIGINT end the command while
    /// packets are unpacked on; `xlb-agent backend unload` undoes everything. The pins are in the
    /// directory `backend` below the pin directory.
    #[command(after_help = "\
The log goes to stderr; XLB_LOG says what is in it, as in XLB_LOG=debug.

Example:
  xlb-agent backend run --config /etc/xlb/backend.toml")]
    Run(RunArgs),
    /// Show the program that unpacks packets on this host, its interfaces, VIPs and counters.
    ///
    /// It shows what is loaded, whether `xlb-agent backend run` still runs or not. The exit code is
    /// 0 when all is well; 1 when the program is not on an interface or a link is down; and 3 when
    /// no such program is loaded.
    #[command(after_help = "Example:\n  xlb-agent backend status -o json")]
    Status,
    /// Undo everything that `xlb-agent backend run` has done on this host.
    ///
    /// The program is detached, its pins and the VIPs on the loopback interface are removed, and
    /// kernel parameters get their former values. Stop `xlb-agent backend run` first.
    #[command(after_help = "Example:\n  xlb-agent backend unload")]
    Unload,
}

/// What `backend run` takes.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The configuration file, with the table `[backend]`.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_BACKEND_CONFIG)]
    pub(super) config: PathBuf,
    /// How a line of the log is written.
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) log: LogFormat,
}

/// The backend that is meant.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The pool, or a service whose pool is meant.
    #[arg(add = ArgValueCandidates::new(candidates::pools))]
    pool: String,
    /// Address and port, as in `10.0.1.7:8080` or `[2001:db8::7]:8080`.
    #[arg(
        value_name = "ADDR:PORT",
        value_parser = values::backend,
        add = ArgValueCandidates::new(candidates::backends)
    )]
    endpoint: SocketAddr,
}

/// What `backend list` takes.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The pool, or a service whose pool is meant; all pools without it.
    #[arg(add = ArgValueCandidates::new(candidates::pools))]
    pub(super) pool: Option<String>,
}

/// What `backend add` takes.
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    #[command(flatten)]
    target: Target,
    /// Share of new connections, relative to the other backends; 0 means none.
    #[arg(long, value_name = "N", default_value_t = 1)]
    weight: u16,
}

/// What `backend remove` takes.
#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    #[command(flatten)]
    target: Target,
    /// Move its connections to other backends at once, which breaks them.
    #[arg(long, conflicts_with = "drain")]
    drop: bool,
    /// Keep its connections until they have been idle for the pool's idle timeout.
    #[arg(long)]
    drain: bool,
}

/// What `backend drain` takes.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    target: Target,
    /// Wait until no connection is left on the backend.
    #[arg(long)]
    pub(super) wait: bool,
    /// Move the connections that are left after this time, which breaks them; never without it.
    #[arg(long = "timeout", value_name = "DURATION", value_parser = values::seconds)]
    pub(super) timeout_s: Option<u64>,
}

/// What `backend weight` takes.
#[derive(Debug, Args)]
pub(super) struct WeightArgs {
    #[command(flatten)]
    target: Target,
    /// Share of new connections, relative to the other backends; 0 means none.
    #[arg(value_name = "N")]
    weight: u16,
}

/// What a verb of `backend` asks for.
#[derive(Debug)]
pub(super) enum BackendRequest<'a> {
    /// Something of this host, where it is a backend.
    Host(HostVerb<'a>),
    /// To see the backends of one pool, or of all.
    List {
        /// Pool or service.
        pool: Option<&'a str>,
    },
    /// To change something.
    Change {
        /// Pool or service.
        pool: &'a str,
        /// What to change.
        endpoint: SocketAddr,
        /// How.
        edit: Edit,
        /// Whether to stay until the drain has ended.
        wait: bool,
    },
}

/// What is asked of this host, where it is a backend.
#[derive(Clone, Copy, Debug)]
pub(super) enum HostVerb<'a> {
    Run(&'a RunArgs),
    Status,
    Unload,
}

/// A change of a backend whose pool is still to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    Add { weight: u16 },
    Remove { connections: Option<OnRemove> },
    Enable,
    Disable,
    Drain { timeout_s: Option<u64> },
    Undrain,
    Weight { weight: u16 },
}

impl BackendCommand {
    pub(super) fn request(&self) -> BackendRequest<'_> {
        let (target, edit, wait) = match self {
            Self::List(args) => {
                return BackendRequest::List {
                    pool: args.pool.as_deref(),
                };
            }
            Self::Add(args) => {
                let weight = args.weight;
                (&args.target, Edit::Add { weight }, false)
            }
            Self::Remove(args) => {
                let connections = match (args.drop, args.drain) {
                    (true, _) => Some(OnRemove::Drop),
                    (false, true) => Some(OnRemove::Drain),
                    (false, false) => None,
                };
                (&args.target, Edit::Remove { connections }, false)
            }
            Self::Enable(target) => (target, Edit::Enable, false),
            Self::Disable(target) => (target, Edit::Disable, false),
            Self::Drain(args) => {
                let timeout_s = args.timeout_s;
                (&args.target, Edit::Drain { timeout_s }, args.wait)
            }
            Self::Undrain(target) => (target, Edit::Undrain, false),
            Self::Weight(args) => {
                let weight = args.weight;
                (&args.target, Edit::Weight { weight }, false)
            }
            Self::Run(args) => return BackendRequest::Host(HostVerb::Run(args)),
            Self::Status => return BackendRequest::Host(HostVerb::Status),
            Self::Unload => return BackendRequest::Host(HostVerb::Unload),
        };
        BackendRequest::Change {
            pool: &target.pool,
            endpoint: target.endpoint,
            edit,
            wait,
        }
    }
}

impl Edit {
    /// The change as the control API takes it.
    pub(super) fn of(self, pool: &str, endpoint: SocketAddr) -> Change {
        let pool = pool.to_owned();
        match self {
            Self::Add { weight } => Change::BackendAdd {
                pool,
                endpoint,
                weight,
            },
            Self::Remove { connections } => Change::BackendRemove {
                pool,
                endpoint,
                connections,
            },
            Self::Enable => Change::BackendEnable { pool, endpoint },
            Self::Disable => Change::BackendDisable { pool, endpoint },
            Self::Drain { timeout_s } => Change::BackendDrain {
                pool,
                endpoint,
                timeout_s,
            },
            Self::Undrain => Change::BackendUndrain { pool, endpoint },
            Self::Weight { weight } => Change::BackendWeight {
                pool,
                endpoint,
                weight,
            },
        }
    }
}
