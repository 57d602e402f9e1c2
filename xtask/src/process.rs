//! Running other programs: what is said about them, and what becomes of them at Ctrl-C.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Command, ExitStatus, Stdio},
    sync::atomic::{AtomicI32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    errno::Errno,
    libc,
    sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet, Signal},
    unistd::Pid,
};

/// Who may clean up after a signal gets this long, and then is killed.
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(20);

/// The signal that asked us to stop, or 0.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// The process group that signals are passed on to, or 0.
static GROUP: AtomicI32 = AtomicI32::new(0);

/// Announces a step. All that is said goes to standard error: a command's standard output belongs to
/// its result.
pub(crate) fn say(what: &str) {
    eprintln!("==> {what}");
}

/// A command as somebody would type it.
pub(crate) fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| {
            let word = word.to_string_lossy();
            if word.contains([' ', '*', '"', '$']) {
                format!("'{word}'")
            } else {
                word.into_owned()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command to its end, with its standard output on our standard error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdout(Stdio::from(io::stderr()))
        .status()
        .with_context(|| format!("start `{}`", shown(command)))?;
    ensure_success(command, status)
}

/// Runs a command and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start `{}`", shown(command)))?;
    ensure_success(command, output.status)?;
    String::from_utf8(output.stdout)
        .with_context(|| format!("read what `{}` prints", shown(command)))
}

/// Runs a command in a process group of its own, and passes signals on to all of the group. After a
/// signal it waits until the whole group is gone: cargo ends at once, while the tests that it started
/// still clean up.
pub(crate) fn run_group(command: &mut Command) -> Result<()> {
    catch_signals()?;
    let mut child = command
        .process_group(0)
        .spawn()
        .with_context(|| format!("start `{}`", shown(command)))?;
    let group = Pid::from_raw(i32::try_from(child.id()).context("a process id fits an i32")?);
    GROUP.store(group.as_raw(), Ordering::SeqCst);
    // A signal that came before the line above found no group to go to.
    if let Some(signal) = signal_received() {
        pass_on(group, i32::from(signal));
    }
    let status = child.wait();
    if signal_received().is_some() {
        wait_for_group(group);
    }
    GROUP.store(0, Ordering::SeqCst);
    let status = status.with_context(|| format!("wait for `{}`", shown(command)))?;
    ensure!(signal_received().is_none(), "stopped by a signal");
    ensure_success(command, status)
}

/// The signal that asked us to stop, if any did.
pub(crate) fn signal_received() -> Option<u8> {
    u8::try_from(SIGNAL.load(Ordering::SeqCst))
        .ok()
        .filter(|signal| *signal != 0)
}

fn ensure_success(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

fn catch_signals() -> Result<()> {
    let action = SigAction::new(
        SigHandler::Handler(on_signal),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: on_signal() uses only atomics and kill(2), which are safe in a signal handler.
        unsafe { signal::sigaction(signal, &action) }.with_context(|| format!("catch {signal}"))?;
    }
    Ok(())
}

extern "C" fn on_signal(number: libc::c_int) {
    // The thread that we interrupt may be about to read errno.
    let errno = Errno::last_raw();
    SIGNAL.store(number, Ordering::SeqCst);
    let group = GROUP.load(Ordering::SeqCst);
    if group != 0 {
        pass_on(Pid::from_raw(group), number);
    }
    Errno::set_raw(errno);
}

fn pass_on(group: Pid, number: i32) {
    if let Ok(signal) = Signal::try_from(number) {
        // A group that is gone needs no signal.
        let _ = signal::killpg(group, signal);
    }
}

fn wait_for_group(group: Pid) {
    let deadline = Instant::now() + CLEAN_UP_TIMEOUT;
    while signal::killpg(group, None).is_ok() {
        reap_orphans();
        if Instant::now() > deadline {
            let _ = signal::killpg(group, Signal::SIGKILL);
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Collects the exit status of every orphan that was handed to us and has ended.
pub(crate) fn reap_orphans() {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("cargo");
        command.args(["test", "--test", "*"]);
        assert_eq!(shown(&command), "cargo test --test '*'");
    }

    #[test]
    fn a_command_that_fails_is_an_error_that_names_it() {
        let error = run(&mut Command::new("false")).unwrap_err().to_string();
        assert!(error.starts_with("`false` failed"), "{error}");
    }
}
