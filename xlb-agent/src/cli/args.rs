//! The command line: verbs, options, and their help.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{EnumValueParser, TypedValueParser as _},
};
use clap_complete::ArgValueCandidates;

use super::{
    args_backend::BackendCommand, args_config::ConfigCommand, args_explain::ExplainArgs,
    args_nat::NatCommand, args_replay::ReplayArgs, args_service::ServiceCommand, candidates,
    generate::Shell,
};
use crate::{
    backend,
    logging::LogFormat,
    options::{
        DEFAULT_CONFIG, DEFAULT_PIN_DIR, DEFAULT_SOCKET, DEFAULT_STATE_DIR, Options, OptionsError,
    },
};

const EXIT_CODES: &str = "\
Exit codes:
  0  The command did what it was asked to; for `status`: all is well.
  1  The command failed: the input is bad, or the agent refused or did not answer; for `status`:
     something is degraded; for `diff` and `reload --dry-run`: something would change.
  2  The command line can't be understood; for `diff` and `reload --dry-run`: the file is bad, or
     no agent answers.
  3  `status` only: no agent answers at the socket.

Example:
  xlb-agent check /etc/xlb/xlb.toml && xlb-agent reload && xlb-agent status";

/// xlb is a layer-4 load balancer for Linux: this is its agent, and the command line that talks to
/// the agent
#[derive(Debug, Parser)]
#[command(name = "xlb-agent", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// The Unix socket of the agent's control API.
    #[arg(long, global = true, value_name = "PATH", env = "XLB_SOCKET", hide_env_values = true, default_value = DEFAULT_SOCKET)]
    pub(super) socket: PathBuf,
    /// The directory on bpffs where the agent pins its maps, program and link.
    #[arg(long, global = true, value_name = "DIR", env = "XLB_PIN_DIR", hide_env_values = true, default_value = DEFAULT_PIN_DIR)]
    pin_dir: PathBuf,
    /// The directory where the agent keeps what has to outlive a reboot.
    #[arg(long, global = true, value_name = "DIR", env = "XLB_STATE_DIR", hide_env_values = true, default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
    /// How the result is printed on stdout.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table",
        value_parser = EnumValueParser::<Output>::new().map(OutputArg::Format)
    )]
    output: OutputArg,
}

impl Global {
    /// How the result is printed.
    pub(super) const fn output(&self) -> Output {
        match self.output {
            OutputArg::Format(output) => output,
            OutputArg::File(_) => Output::Table,
        }
    }

    /// The directory of the pins of a host that is a backend.
    pub(super) fn backend_pin_dir(&self) -> Result<PathBuf, OptionsError> {
        let options = self.options(Path::new(DEFAULT_CONFIG))?;
        Ok(backend::pin_dir(&options.pin_dir))
    }

    /// The paths of an agent that runs with this configuration file.
    pub(super) fn options(&self, config: &Path) -> Result<Options, OptionsError> {
        Options::new(config, &self.socket, &self.pin_dir, &self.state_dir)
    }
}

/// What `-o` says: everywhere how a result is printed, but under `replay` where it is written. The parser
/// wants one type of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OutputArg {
    /// How the result is printed.
    Format(Output),
    /// The file.
    File(PathBuf),
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Text for people.
    Table,
    /// The same with further columns and nothing left out.
    Wide,
    /// JSON as the control API has it.
    Json,
    /// The same as YAML.
    Yaml,
}

impl Output {
    /// Whether people read it, who get warnings on stderr; in JSON and YAML these are within.
    pub(super) const fn is_for_people(self) -> bool {
        match self {
            Self::Table | Self::Wide => true,
            Self::Json | Self::Yaml => false,
        }
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the agent in the foreground.
    ///
    /// It attaches the XDP program, adopts what an earlier agent left behind, and keeps the data
    /// path in line with the file and the health of the backends. SIGHUP reloads the file. SIGTERM
    /// and SIGINT end the agent while packets flow on; `unload` ends the data path.
    #[command(after_help = "\
The log goes to stderr; XLB_LOG says what is in it, as in XLB_LOG=debug or
XLB_LOG=xlb_agent=trace,info.

Example:
  xlb-agent run --config /etc/xlb/xlb.toml")]
    Run(RunArgs),
    /// Check a configuration file without an agent.
    ///
    /// Every error is printed with its file, line and column, and the exit code is 1; otherwise
    /// a summary is printed on one line, followed by warnings.
    #[command(after_help = "Example:\n  xlb-agent check ./xlb.toml")]
    Check(CheckArgs),
    /// Show what holds for the agent, its program, pools and services.
    ///
    /// The exit code is 0 when all is well; 1 when a service is not fully up, an interface is
    /// detached or down, or the last reload was refused; and 3 when no agent answers: then the
    /// pinned maps are read, which only root may.
    #[command(after_help = "Example:\n  xlb-agent status -o json")]
    Status,
    /// Show the health of backends, and why it is what it is.
    #[command(after_help = "Example:\n  xlb-agent health web")]
    Health(HealthArgs),
    /// List and change backends; on a backend, unpack what balancers send.
    #[command(subcommand, after_help = "Example:\n  xlb-agent backend list web")]
    Backend(BackendCommand),
    /// List and change services.
    #[command(subcommand, after_help = "Example:\n  xlb-agent service list")]
    Service(ServiceCommand),
    /// List connections and source ports of services with `forward = "full-nat"`.
    #[command(subcommand, after_help = "Example:\n  xlb-agent nat list web")]
    Nat(NatCommand),
    /// Let the agent read its configuration file again.
    ///
    /// Only what differs is changed. A file with errors changes nothing: the errors are printed
    /// and the exit code is 1. With --dry-run nothing is changed: what would be is printed, and the
    /// exit code is that of `diff`.
    #[command(after_help = "Example:\n  xlb-agent reload --dry-run || xlb-agent reload")]
    Reload(ReloadArgs),
    /// Show what a configuration file would change, and change nothing.
    ///
    /// The running agent compares the file with what is in force, changes made at run time included,
    /// a service at a time: what would change, how many slots of the ring would move next to the
    /// ideal, and which connections would be cut. A backend that is new is taken to be well and in
    /// reach. The exit code is 0 when nothing would change, 1 when something would, and 2 when the
    /// file has errors, which are printed with their places, or no agent answers.
    #[command(after_help = "Example:\n  xlb-agent diff ./new.toml")]
    Diff(DiffArgs),
    /// Tell what becomes of a packet, and why.
    ///
    /// The answer comes from the live maps, by the rule of the data path itself: the service, the
    /// slot that the flow falls into, its records, the backend, and the reason if the packet would
    /// be dropped. Nothing is sent or written. If no agent answers, the pinned maps are read, which
    /// only root may.
    #[command(after_help = "\
Example:
  xlb-agent explain --src 203.0.113.9:51812 --dst 192.0.2.10:443/tcp --syn")]
    Explain(ExplainArgs),
    /// Tell what xlb would do with every frame of a capture.
    ///
    /// Each frame goes through the real program, loaded in a sandbox without interfaces on what the
    /// configuration says, as if all backends were well. A line a frame says the verdict and its
    /// reason, the service, the slot and the backend; what leaves is written to a file. No agent is
    /// asked and no interface is touched. Only root may do this.
    #[command(after_help = "\
Example:
  tcpdump -i eth0 -w in.pcap -c 1000 host 192.0.2.10
  xlb-agent replay --config /etc/xlb/xlb.toml in.pcap -o out.pcapng --next-hop 02:00:0a:00:01:07")]
    Replay(ReplayArgs),
    /// Remove the data path from this host.
    ///
    /// The program is detached and all pins are removed, so that no packet is balanced any more.
    /// Stop the agent first. The state directory stays.
    #[command(after_help = "Example:\n  systemctl stop xlb-agent && xlb-agent unload")]
    Unload,
    /// Translate the configuration of another load balancer.
    #[command(
        subcommand,
        after_help = "Example:\n  xlb-agent config import --from keepalived /etc/keepalived/keepalived.conf"
    )]
    Config(ConfigCommand),
    /// Print the script by which a shell completes commands.
    ///
    /// The shell then knows the commands, their options, and the names of services, pools and
    /// backends of the agent that runs.
    #[command(after_help = "\
Example:
  xlb-agent completions bash > /etc/bash_completion.d/xlb-agent
  xlb-agent completions zsh > /usr/share/zsh/site-functions/_xlb-agent
  xlb-agent completions fish > /etc/fish/completions/xlb-agent.fish")]
    Completions(CompletionsArgs),
    /// Write a manual page for each command into a directory.
    #[command(after_help = "Example:\n  xlb-agent man /usr/local/share/man/man1")]
    Man(ManArgs),
    /// Print the version of this program.
    #[command(after_help = "Example:\n  xlb-agent version")]
    Version,
}

/// What `run` takes.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(super) config: PathBuf,
    /// How a line of the log is written.
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) log: LogFormat,
    /// Serve metrics for Prometheus at this address too. They are on the control socket in any case,
    /// as /metrics.
    #[arg(long, env = "XLB_METRICS", value_name = "ADDRESS:PORT")]
    pub(super) metrics: Option<SocketAddr>,
    /// Move connections together with slots. It is for measuring what transitions are good for.
    #[arg(long, hide = true)]
    pub(super) without_transitions: bool,
}

/// What `completions` takes.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell that the script is for.
    pub(super) shell: Shell,
}

/// What `man` takes.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The directory, which is made if it is missing.
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
}

/// What `check` takes.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The configuration file.
    #[arg(value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(super) file: PathBuf,
}

/// What `reload` takes.
#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// What `diff` takes.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The configuration file.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
}

/// What `health` takes.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// The service whose backends are shown; all services without it.
    #[arg(add = ArgValueCandidates::new(candidates::services))]
    pub(super) service: Option<String>,
}
