//! `backend drain --wait`: stays until no connection is left on the backend.

use std::{net::SocketAddr, time::Duration};

use xlb_control::api::{BackendState, BackendStatus, Client};

use super::client::is_agent_down;

/// Time between two looks at the backend.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Looks in a row that may find no agent, 10 s of them: it may be restarted, and adopts the drain.
const ABSENT_POLLS_MAX: u32 = 20;

/// Waits until the backend has drained, and shows on stderr how far it is. The timeout of the drain
/// is the agent's: at its end the agent moves what is left, and no slot leads there any more.
///
/// # Errors
/// When the drain was called off, or when the agent is gone for longer than a restart takes.
pub(super) async fn wait(client: &Client, pool: &str, endpoint: SocketAddr) -> anyhow::Result<()> {
    let mut shown = None;
    let mut absent_polls = 0;
    loop {
        match client.backends().await {
            Ok(backends) => {
                absent_polls = 0;
                let progress = progress(&backends, pool, endpoint);
                if shown != Some(progress) {
                    eprintln!("{endpoint} in pool {pool}: {}", progress.text());
                    shown = Some(progress);
                }
                match progress {
                    Progress::Drained | Progress::Gone => return Ok(()),
                    Progress::CalledOff => {
                        anyhow::bail!("the drain of {endpoint} in pool {pool} did not end")
                    }
                    Progress::Leaving { .. } => {}
                }
            }
            Err(error) if is_agent_down(&error) && absent_polls < ABSENT_POLLS_MAX => {
                absent_polls += 1;
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// How far a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Older connections still go to the backend.
    Leaving { slots: u32, flows: u64 },
    /// No connection is left.
    Drained,
    /// The backend has been removed, and no connection is left.
    Gone,
    /// The backend gets new connections again.
    CalledOff,
}

impl Progress {
    fn text(self) -> String {
        match self {
            Self::Leaving { slots, flows } => format!(
                "still leading there: {slots} slots of the ring, {flows} recorded connections"
            ),
            Self::Drained => "drained".to_owned(),
            Self::Gone => "removed".to_owned(),
            Self::CalledOff => "gets new connections again".to_owned(),
        }
    }
}

fn progress(backends: &[BackendStatus], pool: &str, endpoint: SocketAddr) -> Progress {
    let Some(backend) = backends
        .iter()
        .find(|backend| backend.pool == pool && backend.endpoint == endpoint)
    else {
        return Progress::Gone;
    };
    match backend.state {
        BackendState::Up | BackendState::Panic => Progress::CalledOff,
        BackendState::Unknown
        | BackendState::Down
        | BackendState::Unresolved
        | BackendState::Draining
        | BackendState::Disabled => match (backend.leaving_slots, backend.recorded_flows) {
            (0, 0) => Progress::Drained,
            (slots, flows) => Progress::Leaving { slots, flows },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    const LEAVING: Progress = Progress::Leaving {
        slots: 5461,
        flows: 0,
    };

    fn of(backends: &[BackendStatus]) -> Progress {
        progress(backends, "web", "10.0.1.8:8080".parse().unwrap())
    }

    #[test]
    fn slots_count_down_until_none_is_left() {
        let mut backends = samples::backends();
        assert_eq!(of(&backends), LEAVING);
        (backends[1].leaving_slots, backends[1].recorded_flows) = (0, 2);
        let recorded = Progress::Leaving { slots: 0, flows: 2 };
        assert_eq!(of(&backends), recorded);
        backends[1].recorded_flows = 0;
        assert_eq!(of(&backends), Progress::Drained);
    }

    #[test]
    fn a_backend_that_is_gone_has_drained() {
        let mut backends = samples::backends();
        backends[1].pool = "other".to_owned();
        assert_eq!(of(&backends), Progress::Gone);
    }

    #[test]
    fn a_drain_that_was_called_off_is_no_success() {
        let mut backends = samples::backends();
        (backends[1].state, backends[1].leaving_slots) = (BackendState::Up, 0);
        assert_eq!(of(&backends), Progress::CalledOff);
    }

    #[test]
    fn a_drain_goes_on_when_its_backend_dies() {
        let mut backends = samples::backends();
        backends[1].state = BackendState::Down;
        assert_eq!(of(&backends), LEAVING);
    }
}
