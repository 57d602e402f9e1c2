//! What is said of a frame, and of all of them.

use std::{fmt, net::SocketAddr};

use serde::Serialize;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Sent to a backend.
    Forward,
    /// Sent to a client, as a reply of a backend.
    Reply,
    /// Answered by xlb itself.
    Answer,
    /// Left to the host.
    Pass,
    /// Dropped.
    Drop,
    /// Not run, since the capture has not all of it or it is no single frame.
    Skip,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Forward => "forward",
            Self::Reply => "reply",
            Self::Answer => "answer",
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Skip => "skip",
        })
    }
}

/// A frame of the capture, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Its place in the capture, from 1 on.
    pub number: u64,
    /// When it was captured, in seconds since 1970.
    pub time: f64,
    /// Bytes of it.
    pub bytes: usize,
    /// What it carries, in words.
    pub packet: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Why, where it was not simply forwarded; `cut`, `short` and `long` are reasons of `skip`.
    pub reason: Option<String>,
    /// The service.
    pub service: Option<String>,
    /// The flow's slot in the service's ring.
    pub slot: Option<u32>,
    /// The backend.
    pub backend: Option<SocketAddr>,
    /// Bytes of the frame that left, if one did.
    pub sent_bytes: Option<usize>,
}

impl Line {
    /// Verdict, reason, service, slot and backend in a few words.
    pub(super) fn comment(&self) -> String {
        let mut text = format!("frame {}: {}", self.number, self.verdict);
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                text += &format!(", {name} {value}");
            }
        };
        add("reason", self.reason.clone());
        add("service", self.service.clone());
        add("slot", self.slot.map(|slot| slot.to_string()));
        add("backend", self.backend.map(|backend| backend.to_string()));
        text
    }
}

/// How many frames came to which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    counts: [u64; 6],
}

impl Summary {
    const ALL: [(Verdict, &'static str); 6] = [
        (Verdict::Forward, "forwarded"),
        (Verdict::Reply, "replies"),
        (Verdict::Answer, "answered"),
        (Verdict::Pass, "left to the host"),
        (Verdict::Drop, "dropped"),
        (Verdict::Skip, "skipped"),
    ];

    pub(super) fn add(&mut self, verdict: Verdict) {
        for (count, (of, _)) in self.counts.iter_mut().zip(Self::ALL) {
            *count += u64::from(of == verdict);
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames", self.counts.iter().sum::<u64>())?;
        let some = self.counts.iter().zip(Self::ALL).filter(|(n, _)| **n > 0);
        for (index, (count, (_, name))) in some.enumerate() {
            let separator = if index == 0 { ": " } else { ", " };
            write!(f, "{separator}{count} {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_there_was() {
        let mut summary = Summary::default();
        assert_eq!(summary.to_string(), "0 frames");
        for verdict in [Verdict::Forward, Verdict::Drop, Verdict::Forward] {
            summary.add(verdict);
        }
        assert_eq!(summary.to_string(), "3 frames: 2 forwarded, 1 dropped");
    }
}
