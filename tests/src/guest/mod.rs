//! What runs as the first process of another kernel, which `cargo xtask kernels` boots: it loads every
//! program, balances real traffic with the real agent, and lets the kernel's own tunnels unpack what
//! xlb has packed.
//!
//! What it finds goes to the second serial port, a line of JSON each, and is read by `cargo xtask
//! kernels`. A check that panics has failed, with its message.

mod init;
mod passage;
mod receiver;
mod traffic;
mod verifier;
mod vlans;

use std::{
    fs::File,
    io::{self, Write},
    panic,
    sync::Mutex,
    time::Instant,
};

use serde::{Deserialize, Serialize};

use passage::Passage;
use receiver::Receiver;
use vlans::Vlans;

/// Where findings go.
const FINDINGS: &str = "/dev/ttyS1";

/// A line on the second serial port.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Finding {
    /// User space was reached.
    Booted {
        /// The kernel's release.
        release: String,
    },
    /// A check has ended.
    Checked {
        /// Its name.
        name: String,
        /// Why it failed, if it did.
        failure: Option<String>,
        /// What it counted.
        counted: Counted,
        /// How long it took.
        milliseconds: u64,
    },
    /// All checks have ended.
    Done,
}

/// What a check counts.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counted {
    /// Programs that were loaded.
    pub programs: u32,
    /// Instructions that the verifier went through for the largest of them.
    pub verified: u32,
    /// Packets that xlb has forwarded.
    pub packets: u64,
}

/// A check: its name, and what it does.
struct Check {
    name: String,
    run: Box<dyn Fn() -> Counted>,
}

/// Everything that is checked on a kernel. A new check is a line here.
fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    for v6 in [false, true] {
        for (forward, receiver) in [
            ("dnat", Receiver::Server),
            ("l2-dsr", Receiver::Server),
            ("ipip", Receiver::Xlb),
            ("gue", Receiver::Xlb),
            ("ipip", Receiver::Kernel),
            ("gue", Receiver::Kernel),
        ] {
            checks.push(Passage::new(forward, receiver, v6).into_check());
        }
    }
    for v6 in [false, true] {
        for (client, backends) in [(10, 10), (10, 20), (0, 20)] {
            let vlans = Vlans {
                client,
                backends,
                v6,
            };
            checks.push(vlans.into_check());
        }
    }
    // What takes longest comes last.
    checks.push(Check {
        name: "programs load with every set of features that is tested".to_owned(),
        run: Box::new(verifier::load_everything),
    });
    checks
}

/// Runs as the first process. It does not return: the machine is switched off at the end.
pub fn run() -> ! {
    if let Err(error) = check_all() {
        eprintln!("guest: {error:#}");
    }
    init::power_off()
}

/// What the last panic said.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

fn check_all() -> anyhow::Result<()> {
    init::prepare()?;
    let mut port = File::options().write(true).open(FINDINGS)?;
    let release = nix::sys::utsname::uname()?
        .release()
        .to_string_lossy()
        .into_owned();
    say(&mut port, &Finding::Booted { release })?;
    init::load_modules()?;
    panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        if let Ok(mut last) = PANIC.lock() {
            // The first of a check: others follow from it.
            last.get_or_insert_with(|| info.to_string());
        }
    }));
    for check in checks() {
        let start = Instant::now();
        let outcome = panic::catch_unwind(panic::AssertUnwindSafe(&check.run));
        let said = PANIC.lock().ok().and_then(|mut last| last.take());
        let failure = outcome
            .is_err()
            .then(|| said.unwrap_or_else(|| "it panicked".to_owned()));
        say(
            &mut port,
            &Finding::Checked {
                name: check.name,
                failure,
                counted: outcome.unwrap_or_default(),
                milliseconds: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            },
        )?;
    }
    say(&mut port, &Finding::Done)?;
    Ok(())
}

fn say(port: &mut impl Write, finding: &Finding) -> io::Result<()> {
    let mut line = serde_json::to_vec(finding)?;
    line.push(b'\n');
    port.write_all(&line)?;
    port.flush()
}
