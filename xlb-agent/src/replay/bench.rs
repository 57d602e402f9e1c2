//! The data path of a configuration in a sandbox, and one frame after the other through it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use anyhow::Context;
use xlb_common::{
    maps::Service,
    reason::{Action, Reason},
};
use xlb_control::config::{Config, Forward};

use super::{
    Line, Mac, Options, Verdict,
    capture::{Captured, Direction},
    carried::Carried,
    hops::{EGRESS, Healthy, forwarded},
    sandbox,
};
use crate::{
    daemon,
    dataplane::{Dataplane, Spec},
    engine::{self, Engine, Pools, goal},
    explain::{self, Facts, Found},
};

/// Longest frame that a test run takes in one piece, in bytes: a page less the room before and behind
/// the frame.
const MAX_FRAME_BYTES: usize = 4096 - 256 - 320;
/// Shortest frame that a test run takes, in bytes: an Ethernet header.
const MIN_FRAME_BYTES: usize = 14;
/// Source of frames that leave, where the interface is not there to ask: administered locally.
const OUR_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x01]);
/// MTU where the interface is not there to ask, in bytes.
const MTU: u16 = 1500;
/// The loopback interface, by which test runs have frames come in.
const LOOPBACK: u32 = 1;

/// What leaves, if something does: where to, and its bytes.
pub(super) type Left = Option<(Direction, Vec<u8>)>;

/// The data path in its sandbox.
pub(super) struct Bench<'a> {
    config: &'a Config,
    engine: Engine,
    reasons: BTreeMap<Reason, u64>,
    /// Packets of the backends of a service, by its number.
    counted: BTreeMap<u32, Vec<u64>>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        options: &Options,
        config: &'a Config,
        key: [u8; 16],
    ) -> anyhow::Result<Self> {
        options.next_hops.check(config)?;
        let config_path = options.config.display();
        check_sources(config, &options.tunnel_sources)
            .with_context(|| format!("{config_path} can't be replayed"))?;
        let interface = config.dataplane.interfaces.first();
        let (mac, mtu) = interface.map_or((OUR_MAC, MTU), |name| known_of(name));
        let pins = sandbox::enter()?;
        let spec = Spec {
            interfaces: Vec::new(),
            mode: config.dataplane.mode,
            features: goal::features(config),
            hash_key: daemon::hash_words(key),
            sizes: engine::sizes(config, None),
        };
        let (mut dataplane, _) = Dataplane::open(&pins, &spec)?;
        let maps = dataplane.maps_mut();
        maps.egress
            .set(EGRESS.into(), LOOPBACK, mac.0, mtu, 0)
            .context("set the interface that packets leave by")?;
        options.next_hops.set_routes(maps)?;
        let mut engine = Engine::adopt(dataplane, key)?;
        let world = Healthy {
            hops: &options.next_hops,
            listeners: listeners(config),
            tunnel_sources: &options.tunnel_sources,
        };
        engine.apply(config, &spec, Pools::All, &world, daemon::now_s())?;
        let reasons = engine.dataplane.maps().reasons.reasons()?;
        Ok(Self {
            config,
            engine,
            reasons: reasons.into_iter().collect(),
            counted: BTreeMap::new(),
        })
    }

    /// Runs a frame; returns what became of it, and what leaves.
    pub(super) fn frame(&mut self, number: u64, frame: &Captured) -> anyhow::Result<(Line, Left)> {
        let carried = Carried::of_frame(&frame.bytes);
        let mut line = Line {
            number,
            time: frame.time.as_secs_f64(),
            bytes: frame.bytes.len(),
            packet: carried
                .as_ref()
                .map_or_else(|| "no IP packet".to_owned(), Carried::to_string),
            verdict: Verdict::Skip,
            reason: None,
            service: None,
            slot: None,
            backend: None,
            sent_bytes: None,
        };
        if let Some(why) = unfit(frame) {
            line.reason = Some(why.to_owned());
            return Ok((line, None));
        }
        let facts = self.facts(carried.as_ref())?;
        // What stands there before is what the frame is decided by.
        let foreseen = self.foreseen(carried.as_ref(), facts.as_ref());
        if let Some(service) = facts.as_ref().and_then(Facts::service) {
            self.count(service)?;
        }
        let tried = self
            .engine
            .dataplane
            .try_frame(&frame.bytes)
            .with_context(|| format!("run frame {number}"))?;
        let reasons = self.new_reasons()?;
        line.verdict = verdict_of(tried.action, &reasons, facts.as_ref())
            .with_context(|| format!("frame {number}: the program ended with {}", tried.action))?;
        let names: Vec<&str> = reasons.iter().map(|reason| reason.name()).collect();
        line.reason = (!names.is_empty()).then(|| names.join(","));
        if let Some(facts) = &facts
            && let Some(service) = facts.service()
        {
            line.service = self.name_of(service);
            line.slot = facts.slot.map(|slot| slot.slot);
            line.backend = match line.verdict {
                Verdict::Forward | Verdict::Reply => self.served(service)?.or(foreseen),
                // To this host's own stack.
                Verdict::Pass => self.served(service)?,
                Verdict::Answer | Verdict::Drop | Verdict::Skip => None,
            };
        }
        let sent = match line.verdict {
            Verdict::Forward | Verdict::Reply | Verdict::Answer => {
                line.sent_bytes = Some(tried.frame.len());
                Some((Direction::Sent, tried.frame))
            }
            Verdict::Pass => Some((Direction::Passed, tried.frame)),
            Verdict::Drop | Verdict::Skip => None,
        };
        Ok((line, sent))
    }

    fn facts(&self, carried: Option<&Carried>) -> anyhow::Result<Option<Facts>> {
        let Some(packet) = carried.and_then(Carried::flow) else {
            return Ok(None);
        };
        let Ok(key) = explain::flow_of(&packet) else {
            return Ok(None);
        };
        let dataplane = &self.engine.dataplane;
        let hash_key = dataplane.spec().hash_key;
        let (maps, now_s) = (dataplane.maps(), daemon::now_s());
        let facts = explain::gather(maps, hash_key, &key, packet.fragment, now_s);
        facts.map(Some).context("read the tables of flows")
    }

    /// The backend that the rule names.
    fn foreseen(&self, carried: Option<&Carried>, facts: Option<&Facts>) -> Option<SocketAddr> {
        let packet = carried?.flow()?;
        let told = explain::explain(&packet, facts?, |_| String::new());
        told.verdict.backend
    }

    /// The reasons that the last frame was counted under.
    fn new_reasons(&mut self) -> anyhow::Result<Vec<Reason>> {
        let now = self.engine.dataplane.maps().reasons.reasons()?;
        let mut new = Vec::new();
        for (reason, count) in now {
            if self.reasons.insert(reason, count) != Some(count) {
                new.push(reason);
            }
        }
        Ok(new)
    }

    fn packets(&self, service: &Service) -> anyhow::Result<Vec<u64>> {
        let counters = &self.engine.dataplane.maps().counters;
        let read = counters.read_range(service.counter_base, service.counter_capacity)?;
        Ok(read
            .iter()
            .map(|counted| counted.packets + counted.reply_packets)
            .collect())
    }

    /// Notes how many packets the backends of a service have had, once.
    fn count(&mut self, service: &Service) -> anyhow::Result<()> {
        if !self.counted.contains_key(&service.number) {
            self.counted.insert(service.number, self.packets(service)?);
        }
        Ok(())
    }

    /// The backend that the last frame was counted for.
    fn served(&mut self, service: &Service) -> anyhow::Result<Option<SocketAddr>> {
        let now = self.packets(service)?;
        let before = self.counted.insert(service.number, now.clone());
        let grown = before.and_then(|before| {
            let mut pairs = now.iter().zip(&before);
            pairs.position(|(now, before)| now != before)
        });
        let Some(position) = grown else {
            return Ok(None);
        };
        let mut pools = self.engine.pools.values();
        let pool = pools.find(|pool| pool.number == service.pool);
        let mut backends = pool.into_iter().flat_map(|pool| pool.backends.values());
        let served = backends.find(|entry| usize::from(entry.position) == position);
        Ok(served.map(crate::endpoint::of))
    }

    fn name_of(&self, service: &Service) -> Option<String> {
        let key = engine::key_of(service);
        let mut services = self.config.services.values();
        let named = services.find(|known| engine::key_of(&goal::of_service(known)) == key);
        named.map(|known| known.name.clone())
    }
}

/// Why a frame can't be run, if it can't.
fn unfit(frame: &Captured) -> Option<&'static str> {
    if frame.bytes.len() < frame.wire_bytes as usize {
        Some("cut")
    } else if frame.bytes.len() < MIN_FRAME_BYTES {
        Some("short")
    } else if frame.bytes.len() > MAX_FRAME_BYTES {
        Some("long")
    } else {
        None
    }
}

/// What an action of the program and the reasons that it counted come to; `None` where the action is none
/// that the program has.
fn verdict_of(action: u32, reasons: &[Reason], facts: Option<&Facts>) -> Option<Verdict> {
    /// `enum xdp_action`.
    const DROP: u32 = 1;
    const PASS: u32 = 2;
    const TX: u32 = 3;
    const REDIRECT: u32 = 4;
    let is_ours = |reason: &Reason| !reason.is_event() && reason.action() == Action::Tx;
    Some(match action {
        DROP => Verdict::Drop,
        PASS => Verdict::Pass,
        TX | REDIRECT if reasons.iter().any(is_ours) => Verdict::Answer,
        TX | REDIRECT => match facts.map(|facts| facts.found) {
            Some(Found::Reply { .. }) => Verdict::Reply,
            Some(Found::Service(_) | Found::Nothing { .. }) | None => Verdict::Forward,
        },
        _ => return None,
    })
}

/// MAC address and MTU of an interface of this host, or what stands for those of one that is not there.
fn known_of(name: &str) -> (Mac, u16) {
    let read = |what: &str| std::fs::read_to_string(format!("/sys/class/net/{name}/{what}")).ok();
    let mac = read("address").and_then(|text| text.trim().parse().ok());
    let mtu = read("mtu").and_then(|text| text.trim().parse().ok());
    (mac.unwrap_or(OUR_MAC), mtu.unwrap_or(MTU))
}

/// Addresses at which services of this host's own stack listen.
fn listeners(config: &Config) -> BTreeSet<IpAddr> {
    let services = config.services.values();
    services
        .filter(|service| service.forward == Forward::Local)
        .filter_map(|service| config.pools.get(&service.pool))
        .flat_map(|pool| &pool.backends)
        .map(|backend| backend.address)
        .collect()
}

/// Fails if outer headers to a backend would have no source.
fn check_sources(config: &Config, said: &[IpAddr]) -> anyhow::Result<()> {
    for (service, pool) in
        forwarded(config).filter(|(service, _)| goal::is_tunnelled(service.forward))
    {
        for backend in &pool.backends {
            let (configured, key) = match backend.address {
                IpAddr::V4(_) => (
                    config.dataplane.tunnel_source_v4.is_some(),
                    "tunnel_source_v4",
                ),
                IpAddr::V6(_) => (
                    config.dataplane.tunnel_source_v6.is_some(),
                    "tunnel_source_v6",
                ),
            };
            let is_said = said
                .iter()
                .any(|source| source.is_ipv4() == backend.address.is_ipv4());
            anyhow::ensure!(
                configured || is_said,
                "the source of outer headers to backend {} of service `{}` is not known; say it with \
                 --tunnel-source ADDRESS, or as `{key}` in the file",
                backend.address,
                service.name
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn frames_that_a_test_run_can_not_take_are_skipped() {
        let frame = |bytes: usize, wire_bytes: u32| Captured {
            time: Duration::ZERO,
            wire_bytes,
            bytes: vec![0; bytes],
        };
        assert_eq!(unfit(&frame(60, 60)), None);
        assert_eq!(unfit(&frame(60, 61)), Some("cut"));
        assert_eq!(unfit(&frame(13, 13)), Some("short"));
        assert_eq!(unfit(&frame(3520, 3520)), None);
        assert_eq!(unfit(&frame(3521, 3521)), Some("long"));
    }

    #[test]
    fn an_unknown_action_is_no_verdict() {
        assert_eq!(verdict_of(0, &[], None), None);
        assert_eq!(verdict_of(3, &[], None), Some(Verdict::Forward));
        let echo = [Reason::EchoReply];
        assert_eq!(verdict_of(3, &echo, None), Some(Verdict::Answer));
        let event = [Reason::TableLookup];
        assert_eq!(verdict_of(4, &event, None), Some(Verdict::Forward));
    }
}
