//! What a probe found.

use std::{borrow::Cow, fmt, time::Duration};

/// What a probe found, and how long it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it found.
    pub result: ProbeResult,
    /// Time from its start to its end; the check's timeout if it timed out.
    pub latency: Duration,
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// The connection was opened.
    Ok,
    /// The backend's host refused the connection.
    Refused,
    /// Nothing answered in time.
    TimedOut,
    /// There is no way to the backend, for this reason.
    Unreachable(String),
    /// The connection failed in another way.
    Other(String),
    /// This host could not probe, which says nothing about the backend.
    Local(String),
}

/// What a probe's result says about the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    Well,
    Ill,
    Nothing,
}

/// Reason codes in `HAProxy`'s vocabulary (management guide, `show stat`, field `check_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// `L4OK`: the connection was opened.
    L4Ok,
    /// `L4CON`: the connection was refused, or there is no way to the backend.
    L4Con,
    /// `L4TOUT`: nothing answered in time.
    L4Tout,
    /// `UNK`: no probe has told anything yet, or the last one could not.
    Unk,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 4] = [Self::L4Ok, Self::L4Con, Self::L4Tout, Self::Unk];

    /// The code as it is printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::L4Ok => "L4OK",
            Self::L4Con => "L4CON",
            Self::L4Tout => "L4TOUT",
            Self::Unk => "UNK",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Outcome {
    /// The reason code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self.result {
            ProbeResult::Ok => Code::L4Ok,
            ProbeResult::Refused | ProbeResult::Unreachable(_) | ProbeResult::Other(_) => {
                Code::L4Con
            }
            ProbeResult::TimedOut => Code::L4Tout,
            ProbeResult::Local(_) => Code::Unk,
        }
    }

    /// What happened, in words.
    #[must_use]
    pub fn sentence(&self) -> Cow<'static, str> {
        match &self.result {
            ProbeResult::Ok => Cow::Borrowed("connection opened"),
            ProbeResult::Refused => Cow::Borrowed("connection refused"),
            ProbeResult::TimedOut => Cow::Owned(format!(
                "timed out: no answer within {}",
                humantime::format_duration(self.latency)
            )),
            ProbeResult::Unreachable(detail) => Cow::Owned(format!("unreachable: {detail}")),
            ProbeResult::Other(detail) => Cow::Owned(format!("connection failed: {detail}")),
            ProbeResult::Local(detail) => Cow::Owned(format!(
                "this host could not probe: {detail}; the state stays as it was"
            )),
        }
    }

    pub(super) const fn evidence(&self) -> Evidence {
        match self.result {
            ProbeResult::Ok => Evidence::Well,
            ProbeResult::Refused
            | ProbeResult::TimedOut
            | ProbeResult::Unreachable(_)
            | ProbeResult::Other(_) => Evidence::Ill,
            ProbeResult::Local(_) => Evidence::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_result_has_its_code_and_sentence() {
        let cases = [
            (ProbeResult::Ok, "L4OK", "connection opened"),
            (ProbeResult::Refused, "L4CON", "connection refused"),
            (
                ProbeResult::TimedOut,
                "L4TOUT",
                "timed out: no answer within 100ms",
            ),
            (
                ProbeResult::Unreachable("no route to host".to_owned()),
                "L4CON",
                "unreachable: no route to host",
            ),
            (
                ProbeResult::Other("reset".to_owned()),
                "L4CON",
                "connection failed: reset",
            ),
            (
                ProbeResult::Local("too many open files".to_owned()),
                "UNK",
                "this host could not probe: too many open files; the state stays as it was",
            ),
        ];
        for (result, code, sentence) in cases {
            let outcome = Outcome {
                result,
                latency: Duration::from_millis(100),
            };
            assert_eq!(outcome.code().to_string(), code);
            assert_eq!(outcome.sentence(), sentence);
        }
    }
}
