//! XDP programs of others, which somebody has loaded, configured and pinned.

use std::{path::PathBuf, str::FromStr};

use super::{
    check::Outcome,
    harness::{Harness, Loaded},
    traffic::Traffic,
    world::{GATEWAY_MAC, Plan},
};
use crate::progress::say;

/// `NAME=PIN` of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerOption {
    name: String,
    pin: PathBuf,
}

impl FromStr for PeerOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, pin) = text
            .split_once('=')
            .ok_or("expected NAME=PIN, for instance katran=/sys/fs/bpf/katran")?;
        if name.is_empty() || name.contains('/') || pin.is_empty() {
            return Err("expected NAME=PIN, with a name without a slash".to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            pin: pin.into(),
        })
    }
}

/// A program of somebody else's.
#[derive(Debug)]
pub struct Peer {
    name: String,
    program: Loaded,
}

impl Peer {
    /// Opens the pin.
    ///
    /// # Errors
    ///
    /// When there is no XDP program.
    pub fn open(option: &PeerOption) -> anyhow::Result<Self> {
        Ok(Self {
            name: option.name.clone(),
            program: Loaded::from_pin(&option.pin)?,
        })
    }

    /// The program.
    #[must_use]
    pub const fn program(&self) -> &Loaded {
        &self.program
    }

    /// The scenario's name with this traffic.
    #[must_use]
    pub fn scenario(&self, traffic: &Traffic) -> String {
        let transport = if traffic.is_v6() { "tcp6" } else { "tcp4" };
        format!("peer/{}/{transport}", self.name)
    }

    /// Whether it does with these frames what the benchmark is about: it puts each into an outer
    /// header to one of the documented backends, and sends it to the gateway. Says so if not.
    ///
    /// # Panics
    ///
    /// When it does not do so with IPv4, which every peer must.
    #[must_use]
    pub fn is_fit(&self, harness: &mut Harness, traffic: &Traffic) -> bool {
        const LOOKED_AT: usize = 50;
        let v6 = traffic.is_v6();
        let plan = Plan::Mode("ipip");
        let outcome = Outcome::Encapsulated {
            first: plan.backends(v6).ip(),
            count: plan.backend_count(),
            mac: GATEWAY_MAC,
            in_udp: false,
        };
        let tried = harness.call(&self.program).and_then(|()| {
            (0..LOOKED_AT).try_for_each(|_| {
                let (action, frame) = harness.run_once();
                outcome.check(traffic, action, &frame)
            })
        });
        match tried {
            Ok(()) => true,
            Err(error) if v6 => {
                say(&format!("{} is left out of IPv6: {error:#}", self.name));
                false
            }
            Err(error) => panic!(
                "the peer {}: {error:#}; docs/benchmark.md says how it has to be configured",
                self.name
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_has_a_name_and_a_pin() {
        let option: PeerOption = "katran=/sys/fs/bpf/katran".parse().expect("an option");
        assert_eq!(option.name, "katran");
        assert_eq!(option.pin, PathBuf::from("/sys/fs/bpf/katran"));
        for wrong in ["katran", "=/sys/fs/bpf/katran", "a/b=/c", "katran="] {
            assert!(wrong.parse::<PeerOption>().is_err(), "{wrong}");
        }
    }
}
