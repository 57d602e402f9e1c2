//! What comes out of a program, so that nothing is measured that does not do its work.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::{IpNumber, SlicedPacket, TransportSlice, UdpSlice};
use xlb_common::gue;

use super::traffic::{Traffic, Way};

/// Bytes of an Ethernet header.
const ETHERNET_BYTES: usize = 14;
/// `XDP_PASS`.
const PASS: u32 = 2;
/// `XDP_TX`.
const TX: u32 = 3;

/// What should come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The frame as it was, for the host.
    Passed,
    /// In an outer header to a backend, for a MAC address.
    Encapsulated {
        /// The first of the backends.
        first: IpAddr,
        /// Backends, with consecutive addresses.
        count: u32,
        /// Where the frame goes.
        mac: [u8; 6],
        /// Whether a UDP header stands between.
        in_udp: bool,
    },
    /// With a backend as its destination.
    Rewritten {
        /// The first of the backends.
        first: SocketAddr,
        /// Backends, with consecutive addresses.
        count: u32,
    },
    /// For the MAC address of a backend, otherwise as it was.
    Switched,
    /// From a VIP instead of a backend.
    Reply {
        /// The VIP.
        from: SocketAddr,
    },
}

impl Outcome {
    /// Whether the program makes the frame longer at its front, which the wrapper undoes.
    #[must_use]
    pub const fn grows(&self) -> bool {
        matches!(self, Self::Encapsulated { .. })
    }

    /// Says what is wrong with what came out.
    ///
    /// # Errors
    ///
    /// When something is.
    pub fn check(&self, traffic: &Traffic, action: u32, frame: &[u8]) -> Result<()> {
        let wanted = match self {
            Self::Passed => PASS,
            Self::Encapsulated { .. }
            | Self::Rewritten { .. }
            | Self::Switched
            | Self::Reply { .. } => TX,
        };
        ensure!(action == wanted, "its action is {action}, not {wanted}");
        let (mac, packet) = frame
            .split_at_checked(ETHERNET_BYTES)
            .context("what comes out is shorter than an Ethernet header")?;
        match *self {
            Self::Passed => as_it_was(traffic, packet),
            Self::Switched => {
                ensure!(
                    mac[..4] == [2, 1, 0, 0],
                    "the frame is for {:02x?}, which is no backend",
                    &mac[..6]
                );
                as_it_was(traffic, packet)
            }
            Self::Encapsulated {
                first,
                count,
                mac: wanted,
                in_udp,
            } => {
                ensure!(
                    mac[..6] == wanted,
                    "the frame is for {:02x?}, not for {wanted:02x?}",
                    &mac[..6]
                );
                let inner = unpack(packet, first, count, in_udp)?;
                as_it_was(traffic, inner)
            }
            Self::Rewritten { first, count } => {
                let (from, to) = ends(packet)?;
                ensure!(is_client(traffic, from), "it comes from {from}");
                ensure!(
                    is_among(to.ip(), first.ip(), count) && to.port() == first.port(),
                    "it goes to {to}, which is no backend"
                );
                Ok(())
            }
            Self::Reply { from: vip } => {
                let (from, to) = ends(packet)?;
                ensure!(from == vip, "it comes from {from}, not from {vip}");
                ensure!(is_client(traffic, to), "it goes to {to}");
                Ok(())
            }
        }
    }
}

/// Whether a packet has the ends of one of the traffic's flows.
fn as_it_was(traffic: &Traffic, packet: &[u8]) -> Result<()> {
    let (from, to) = ends(packet)?;
    let Way::ToServices { first, count } = traffic.way else {
        bail!("no traffic to services");
    };
    ensure!(
        is_client(traffic, from)
            && is_among(to.ip(), first.ip(), count)
            && to.port() == first.port(),
        "it goes from {from} to {to}, which no flow does"
    );
    Ok(())
}

/// The packet within an outer header to one of the backends.
fn unpack(packet: &[u8], first: IpAddr, count: u32, in_udp: bool) -> Result<&[u8]> {
    let parsed = SlicedPacket::from_ip(packet).context("the outer header is none")?;
    let net = parsed.net.as_ref().context("it has no IP header")?;
    let to = ip_ends(net).1;
    ensure!(
        is_among(to, first, count),
        "the outer header is for {to}, which is no backend"
    );
    let payload = net.ip_payload_ref().context("it carries nothing")?;
    if in_udp {
        let udp = UdpSlice::from_slice(payload.payload).context("it carries no UDP")?;
        ensure!(
            payload.ip_number == IpNumber::UDP && udp.destination_port().to_be() == gue::PORT_BE,
            "the outer header carries no GUE"
        );
        return Ok(udp.payload());
    }
    ensure!(
        [IpNumber::IPV4, IpNumber::IPV6].contains(&payload.ip_number),
        "the outer header carries {:?}, no IP packet",
        payload.ip_number
    );
    Ok(payload.payload)
}

fn ends(packet: &[u8]) -> Result<(SocketAddr, SocketAddr)> {
    let parsed = SlicedPacket::from_ip(packet).context("it is no IP packet")?;
    let (from, to) = ip_ends(parsed.net.as_ref().context("it has no IP header")?);
    let (source, destination) = match parsed.transport {
        Some(TransportSlice::Tcp(tcp)) => (tcp.source_port(), tcp.destination_port()),
        Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port()),
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_))
        | None => {
            bail!("it carries neither TCP nor UDP")
        }
    };
    Ok((
        SocketAddr::new(from, source),
        SocketAddr::new(to, destination),
    ))
}

fn ip_ends(net: &etherparse::NetSlice<'_>) -> (IpAddr, IpAddr) {
    match net {
        etherparse::NetSlice::Ipv4(ip) => {
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
            )
        }
        etherparse::NetSlice::Ipv6(ip) => {
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
            )
        }
        etherparse::NetSlice::Arp(_) => panic!("an IP header was asked for"),
    }
}

fn is_client(traffic: &Traffic, end: SocketAddr) -> bool {
    let (client, other) = traffic.flow(0);
    let client = match traffic.way {
        Way::ToServices { .. } => client,
        Way::ToClients { .. } => other,
    };
    // All clients share their first 15 bits.
    let prefix = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits() >> 17),
        IpAddr::V6(address) => address.to_bits() >> 17,
    };
    prefix(end.ip()) == prefix(client.ip())
}

fn is_among(address: IpAddr, first: IpAddr, count: u32) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    let (address, first) = (bits(address), bits(first));
    (first..first + u128::from(count)).contains(&address)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::cost::traffic::Carries;

    const TRAFFIC: Traffic = Traffic {
        way: Way::ToServices {
            first: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10)), 80),
            count: 1,
        },
        carries: Carries::Segment,
    };

    fn said(outcome: Outcome, action: u32, frame: &[u8]) -> String {
        match outcome.check(&TRAFFIC, action, frame) {
            Ok(()) => String::new(),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn a_frame_that_passes_is_as_it_was() {
        let frame = TRAFFIC.frame(3);
        assert_eq!(said(Outcome::Passed, PASS, &frame), "");
        assert_eq!(said(Outcome::Passed, TX, &frame), "its action is 3, not 2");
        let mut other = frame;
        other[33] ^= 1;
        assert!(said(Outcome::Passed, PASS, &other).ends_with("which no flow does"));
    }

    #[test]
    fn an_outer_header_leads_to_a_backend_and_carries_the_packet() {
        let inner = TRAFFIC.frame(3);
        let mac = [2, 0, 10, 80, 1, 254];
        let wrap = |mac: [u8; 6], to: [u8; 4]| {
            let mut frame = Vec::new();
            PacketBuilder::ethernet2([2; 6], mac)
                .ipv4([10, 80, 1, 1], to, 64)
                .write(&mut frame, IpNumber::IPV4, &inner[ETHERNET_BYTES..])
                .expect("a frame");
            frame
        };
        let outcome = Outcome::Encapsulated {
            first: IpAddr::V4(std::net::Ipv4Addr::new(10, 128, 0, 1)),
            count: 2,
            mac,
            in_udp: false,
        };
        assert_eq!(said(outcome, TX, &wrap(mac, [10, 128, 0, 2])), "");
        assert!(said(outcome, TX, &wrap(mac, [10, 128, 0, 3])).ends_with("which is no backend"));
        assert!(said(outcome, TX, &wrap([9; 6], [10, 128, 0, 2])).contains("the frame is for"));
        assert!(said(outcome, TX, &inner).contains("the frame is for"));
        let mut unwrapped = inner.clone();
        unwrapped[..6].copy_from_slice(&mac);
        assert!(said(outcome, TX, &unwrapped).ends_with("which is no backend"));
    }

    #[test]
    fn under_gue_a_udp_header_stands_between() {
        let inner = TRAFFIC.frame(3);
        let mac = [2, 0, 10, 80, 1, 254];
        let wrap = |port: u16| {
            let mut frame = Vec::new();
            PacketBuilder::ethernet2([2; 6], mac)
                .ipv4([10, 80, 1, 1], [10, 128, 0, 1], 64)
                .udp(50_000, port)
                .write(&mut frame, &inner[ETHERNET_BYTES..])
                .expect("a frame");
            frame
        };
        let outcome = Outcome::Encapsulated {
            first: IpAddr::V4(std::net::Ipv4Addr::new(10, 128, 0, 1)),
            count: 1,
            mac,
            in_udp: true,
        };
        assert_eq!(said(outcome, TX, &wrap(u16::from_be(gue::PORT_BE))), "");
        assert!(said(outcome, TX, &wrap(53)).ends_with("carries no GUE"));
    }

    #[test]
    fn a_reply_comes_from_the_vip() {
        let vip: SocketAddr = "192.0.2.10:80".parse().expect("an endpoint");
        let traffic = Traffic {
            way: Way::ToClients {
                first: "10.128.0.1:8080".parse().expect("an endpoint"),
                count: 2,
            },
            carries: Carries::Segment,
        };
        let outcome = Outcome::Reply { from: vip };
        let unchanged = traffic.frame(1);
        assert!(outcome.check(&traffic, TX, &unchanged).is_err());
        let (_, client) = traffic.flow(1);
        let IpAddr::V4(to) = client.ip() else {
            panic!("an IPv4 flow");
        };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([192, 0, 2, 10], to.octets(), 64)
            .tcp(80, client.port(), 1, 1)
            .write(&mut frame, &[])
            .expect("a frame");
        outcome.check(&traffic, TX, &frame).expect("it is right");
    }
}
