//! Rounds of settling, which run beside the event loop.

use std::io;

use tokio::sync::mpsc;

use super::{Daemon, now_s};
use crate::engine::Found;

/// Where the end of a round is told. There is one round at a time.
pub(super) struct Rounds {
    sender: mpsc::Sender<io::Result<Found>>,
    receiver: mpsc::Receiver<io::Result<Found>>,
}

impl Rounds {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(1);
        Self { sender, receiver }
    }

    /// Waits for the end of a round.
    pub(super) async fn ended(&mut self) -> Option<io::Result<Found>> {
        self.receiver.recv().await
    }
}

impl Daemon {
    /// Begins a round, if there is something to do for one.
    pub(super) fn begin_round(&mut self, now_s: u32) -> anyhow::Result<()> {
        if let Some(round) = self.engine.begin_round(&self.merged.config, now_s)? {
            let sender = self.rounds.sender.clone();
            tokio::task::spawn_blocking(move || {
                // Nobody waits for it any more when the agent ends.
                let _ = sender.blocking_send(round.run());
            });
        }
        Ok(())
    }

    /// Ends a round.
    pub(super) fn on_round(&mut self, found: io::Result<Found>) -> anyhow::Result<()> {
        let found = found
            .inspect_err(|error| tracing::error!(%error, "reading the records of flows"))
            .ok();
        self.engine.finish_round(found, now_s())?;
        Ok(())
    }
}
