//! Processes on the hosts of a lab.

use std::{
    io,
    process::{Child, Command, ExitStatus},
    sync::{Mutex, OnceLock, mpsc},
    thread,
};

use super::Lab;

/// A process on a host, killed when this is dropped or when this process ends.
pub struct Process {
    name: String,
    child: Child,
    lab: Lab,
}

type Job = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts `command` on a thread that lives as long as this process. `PR_SET_PDEATHSIG` is about
/// the end of the thread that forked, not of its process, and a test's thread ends with the test.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, answer) in jobs {
                    // Whoever asked waits for the answer, so there is somebody to take it.
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("start the thread that starts processes");
        Mutex::new(sender)
    });
    let (answer, child) = mpsc::channel();
    spawner
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .send((command, answer))
        .expect("the spawner runs as long as the process");
    child.recv().expect("the spawner answers")
}

impl Process {
    /// Starts a command that was made by [`super::NetNs::command`]. `name` is for messages.
    #[track_caller]
    pub fn start(lab: &Lab, name: &str, command: Command) -> Self {
        let program = command.get_program().to_owned();
        let child = spawn(command)
            .unwrap_or_else(|error| panic!("start {name} ({}): {error}", program.display()));
        Self {
            name: name.to_owned(),
            child,
            lab: lab.clone(),
        }
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its pipes.
    pub fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).expect("pids fit"));
        nix::sys::signal::kill(pid, signal)
            .unwrap_or_else(|error| panic!("send {signal} to {}: {error}", self.name));
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill9(&mut self) {
        // Only a process that has been waited for cannot be killed, and that one is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.child
            .wait()
            .unwrap_or_else(|error| panic!("wait for {}: {error}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.lab.is_kept() {
            self.kill9();
        }
    }
}
