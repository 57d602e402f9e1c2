//! The command line as it is typed, and its help.

use std::path::Path;

use clap::{CommandFactory, Parser, error::ErrorKind};
use xlb_control::{
    api::Change,
    config::{Forward, OnRemove, Protocol},
};

use super::{
    args::{Cli, Command, Output},
    args_backend::{BackendCommand, BackendRequest},
    args_service::ServiceCommand,
};
use crate::logging::LogFormat;

fn parse(line: &str) -> Cli {
    Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn refusal(line: &str) -> clap::Error {
    Cli::try_parse_from(line.split_whitespace()).expect_err(line)
}

/// The change of a `backend` command, and whether it waits.
fn change(line: &str) -> (Change, bool) {
    let Command::Backend(command) = parse(line).command else {
        panic!("{line} is no backend command");
    };
    match command.request() {
        BackendRequest::Change {
            pool,
            endpoint,
            edit,
            wait,
        } => (edit.of(pool, endpoint), wait),
        BackendRequest::List { .. } | BackendRequest::Host(_) => panic!("{line} changes nothing"),
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example() {
    fn visit(command: &clap::Command) {
        for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
            let help = sub.get_after_help().map(ToString::to_string);
            assert!(
                help.is_some_and(|help| help.contains("Example:\n  ")),
                "{} has no example",
                sub.get_name()
            );
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
            visit(sub);
        }
    }
    visit(&Cli::command());
}

/// Every command says in a whole sentence what it does, and so does each of its options.
#[test]
fn help_is_whole_sentences() {
    fn visit(command: &clap::Command) {
        for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(about.contains(' '), "{}: {about}", sub.get_name());
            for argument in sub.get_arguments().filter(|a| !a.is_hide_set()) {
                let help = argument.get_help().map(ToString::to_string);
                assert!(
                    help.is_some_and(|help| help.contains(' ')),
                    "{} of {} says nothing",
                    argument.get_id(),
                    sub.get_name()
                );
            }
            visit(sub);
        }
    }
    visit(&Cli::command());
}

#[test]
fn run_takes_its_paths() {
    let cli = parse("xlb-agent run --config /etc/x.toml --socket /run/s --pin-dir /p --log json");
    let Command::Run(args) = &cli.command else {
        panic!("not run");
    };
    let options = cli.global.options(&args.config).unwrap();
    assert_eq!(args.log, LogFormat::Json);
    assert_eq!(options.config, Path::new("/etc/x.toml"));
    assert_eq!(options.socket, Path::new("/run/s"));
    assert_eq!(options.pin_dir, Path::new("/p"));
}

#[test]
fn global_options_stand_before_or_after_the_verb() {
    for line in [
        "xlb-agent -o json --socket /s status",
        "xlb-agent status -o json --socket /s",
    ] {
        let cli = parse(line);
        assert_eq!(cli.global.output(), Output::Json);
        assert_eq!(cli.global.socket, Path::new("/s"));
    }
}

#[test]
fn backend_verbs_become_changes() {
    let (pool, endpoint) = ("web".to_owned(), "10.0.1.7:8080".parse().unwrap());
    let changes = [
        (
            "add web 10.0.1.7:8080",
            Change::BackendAdd {
                pool: pool.clone(),
                endpoint,
                weight: 1,
            },
        ),
        (
            "add web 10.0.1.7:8080 --weight 5",
            Change::BackendAdd {
                pool: pool.clone(),
                endpoint,
                weight: 5,
            },
        ),
        (
            "remove web 10.0.1.7:8080",
            Change::BackendRemove {
                pool: pool.clone(),
                endpoint,
                connections: None,
            },
        ),
        (
            "remove web 10.0.1.7:8080 --drop",
            Change::BackendRemove {
                pool: pool.clone(),
                endpoint,
                connections: Some(OnRemove::Drop),
            },
        ),
        (
            "remove web 10.0.1.7:8080 --drain",
            Change::BackendRemove {
                pool: pool.clone(),
                endpoint,
                connections: Some(OnRemove::Drain),
            },
        ),
        (
            "enable web 10.0.1.7:8080",
            Change::BackendEnable {
                pool: pool.clone(),
                endpoint,
            },
        ),
        (
            "disable web 10.0.1.7:8080",
            Change::BackendDisable {
                pool: pool.clone(),
                endpoint,
            },
        ),
        (
            "undrain web 10.0.1.7:8080",
            Change::BackendUndrain {
                pool: pool.clone(),
                endpoint,
            },
        ),
        (
            "weight web 10.0.1.7:8080 0",
            Change::BackendWeight {
                pool,
                endpoint,
                weight: 0,
            },
        ),
    ];
    for (line, expected) in changes {
        let line = format!("xlb-agent backend {line}");
        assert_eq!(change(&line), (expected, false), "{line}");
    }
}

#[test]
fn a_backends_own_side_has_its_file_and_its_part_of_the_pins() {
    let cli = parse("xlb-agent backend run --pin-dir /p");
    assert_eq!(
        cli.global.backend_pin_dir().unwrap(),
        Path::new("/p/backend")
    );
    let Command::Backend(BackendCommand::Run(args)) = &cli.command else {
        panic!("not backend run");
    };
    assert_eq!(args.config, Path::new("/etc/xlb/backend.toml"));
}

#[test]
fn a_drain_can_wait_and_can_end() {
    let line = "xlb-agent backend drain web [2001:db8::7]:8080 --wait --timeout 5m";
    let expected = Change::BackendDrain {
        pool: "web".to_owned(),
        endpoint: "[2001:db8::7]:8080".parse().unwrap(),
        timeout_s: Some(300),
    };
    assert_eq!(change(line), (expected, true));
}

#[test]
fn a_service_is_added() {
    let line = "xlb-agent service add web --vip 192.0.2.10 --port 443 --forward l2-dsr --pool web";
    let Command::Service(ServiceCommand::Add(args)) = parse(line).command else {
        panic!("not service add");
    };
    assert_eq!(
        args.change("web"),
        Change::ServiceAdd {
            name: "web".to_owned(),
            vip: "192.0.2.10".parse().unwrap(),
            port: 443.into(),
            protocol: Protocol::Tcp,
            forward: Forward::L2Dsr,
            pool: "web".to_owned(),
        }
    );
}

#[test]
fn bad_values_are_usage_errors_that_say_what_to_type() {
    for (line, hint) in [
        (
            "backend add web 10.0.1.7",
            "`10.0.1.7:8080` or `[2001:db8::7]:8080`",
        ),
        ("backend drain web 10.0.1.7:80 --timeout 300", "`30s`"),
        (
            "service add a --vip 192.0.2.1 --port 0 --forward dnat --pool a",
            "from 1 to 65535, a range such as `8000-8999`, or `all`",
        ),
        (
            "service add a --vip 192.0.2.1 --port 1 --forward nat --pool a",
            "`dnat`",
        ),
    ] {
        let error = refusal(&format!("xlb-agent {line}"));
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(hint), "{line}: {error}");
    }
    let both = refusal("xlb-agent backend remove web 10.0.1.7:80 --drop --drain");
    assert_eq!(both.kind(), ErrorKind::ArgumentConflict);
}

/// The help as a terminal of 100 columns shows it, whatever the tests run in.
fn help(line: &str) -> String {
    let error = Cli::command()
        .term_width(100)
        .try_get_matches_from(line.split_whitespace())
        .expect_err(line);
    assert_eq!(error.kind(), ErrorKind::DisplayHelp);
    error.to_string()
}

#[test]
fn golden_help_of_a_command() {
    assert_eq!(help("xlb-agent backend weight -h"), GOLDEN_WEIGHT);
}

#[test]
fn the_first_help_documents_the_exit_codes() {
    assert!(help("xlb-agent --help").ends_with(GOLDEN_EXIT_CODES));
}

const GOLDEN_WEIGHT: &str = "\
Give a backend another share of new connections

Usage: xlb-agent backend weight [OPTIONS] <POOL> <ADDR:PORT> <N>

Arguments:
  <POOL>       The pool, or a service whose pool is meant
  <ADDR:PORT>  Address and port, as in `10.0.1.7:8080` or `[2001:db8::7]:8080`
  <N>          Share of new connections, relative to the other backends; 0 means none

Options:
  -h, --help  Print help (see more with '--help')

Global options:
      --socket <PATH>    The Unix socket of the agent's control API [env: XLB_SOCKET] [default:
                         /run/xlb/agent.sock]
      --pin-dir <DIR>    The directory on bpffs where the agent pins its maps, program and link
                         [env: XLB_PIN_DIR] [default: /sys/fs/bpf/xlb]
      --state-dir <DIR>  The directory where the agent keeps what has to outlive a reboot [env:
                         XLB_STATE_DIR] [default: /var/lib/xlb]
  -o, --output <FORMAT>  How the result is printed on stdout [default: table] [possible values:
                         table, wide, json, yaml]

Example:
  xlb-agent backend weight web 10.0.1.7:8080 3
";

const GOLDEN_EXIT_CODES: &str = "\
Exit codes:
  0  The command did what it was asked to; for `status`: all is well.
  1  The command failed: the input is bad, or the agent refused or did not answer; for `status`:
     something is degraded; for `diff` and `reload --dry-run`: something would change.
  2  The command line can't be understood; for `diff` and `reload --dry-run`: the file is bad, or
     no agent answers.
  3  `status` only: no agent answers at the socket.

Example:
  xlb-agent check /etc/xlb/xlb.toml && xlb-agent reload && xlb-agent status
";
