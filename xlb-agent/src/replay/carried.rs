//! What a frame carries, as far as a line about it says.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use etherparse::{IpNumber, LaxNetSlice, LaxSlicedPacket};
use xlb_control::{api::ExplainRequest, config::Protocol};

/// An IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    source: IpAddr,
    destination: IpAddr,
    /// Whether it is a part of a datagram.
    is_fragment: bool,
    what: What,
}

/// What an IP packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// A packet of a flow that xlb may balance.
    Flow {
        protocol: Protocol,
        ports: [u16; 2],
        /// The bits of a TCP header, or the type of an SCTP packet's first chunk.
        flags: u8,
        sequence: u32,
    },
    /// ICMP or ICMPv6, and the packet that it is about, if it is an error.
    Icmp {
        kind: u8,
        code: u8,
        about: Option<Box<Carried>>,
    },
    /// A fragment but the first.
    Fragment,
    /// Something else, by its protocol number.
    Other(u8),
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Flags of TCP as tcpdump has them.
const TCP_FLAGS: [(u8, char); 8] = [
    (SYN, 'S'),
    (0x01, 'F'),
    (0x04, 'R'),
    (0x08, 'P'),
    (ACK, '.'),
    (0x20, 'U'),
    (0x40, 'E'),
    (0x80, 'W'),
];
/// An INIT chunk of SCTP (RFC 9260, section 3.3.2).
const INIT: u8 = 1;

impl Carried {
    /// The IP packet of an Ethernet frame; `None` if it carries none.
    #[must_use]
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        Self::of(&LaxSlicedPacket::from_ethernet(frame).ok()?)
    }

    fn of(packet: &LaxSlicedPacket<'_>) -> Option<Self> {
        let (source, destination, is_later) = match packet.net.as_ref()? {
            LaxNetSlice::Ipv4(ip) => (
                IpAddr::V4(ip.header().source_addr()),
                IpAddr::V4(ip.header().destination_addr()),
                ip.header().fragments_offset().value() != 0,
            ),
            LaxNetSlice::Ipv6(ip) => (
                IpAddr::V6(ip.header().source_addr()),
                IpAddr::V6(ip.header().destination_addr()),
                ip.extensions().clone().into_iter().any(|extension| {
                    matches!(extension, etherparse::Ipv6ExtensionSlice::Fragment(fragment)
                        if fragment.fragment_offset().value() != 0)
                }),
            ),
            LaxNetSlice::Arp(_) => return None,
        };
        let within = packet.net.as_ref()?.ip_payload_ref()?;
        let what = if is_later {
            What::Fragment
        } else {
            What::of(within.ip_number, within.payload)
        };
        Some(Self {
            source,
            destination,
            is_fragment: within.fragmented,
            what,
        })
    }

    /// The packet by which xlb decides: of an ICMP error the one that it is about, as its other end
    /// would send it.
    #[must_use]
    pub fn flow(&self) -> Option<ExplainRequest> {
        match &self.what {
            What::Flow {
                protocol,
                ports: [from, to],
                flags,
                sequence,
            } => Some(ExplainRequest {
                source: SocketAddr::new(self.source, *from),
                destination: SocketAddr::new(self.destination, *to),
                protocol: *protocol,
                syn: opens(*protocol, *flags),
                sequence: (*protocol == Protocol::Tcp).then_some(*sequence),
                fragment: self.is_fragment,
            }),
            What::Icmp {
                about: Some(about), ..
            } => {
                let theirs = about.flow()?;
                Some(ExplainRequest {
                    source: theirs.destination,
                    destination: theirs.source,
                    syn: false,
                    sequence: None,
                    fragment: false,
                    ..theirs
                })
            }
            What::Icmp { about: None, .. } | What::Fragment | What::Other(_) => None,
        }
    }
}

fn opens(protocol: Protocol, flags: u8) -> bool {
    match protocol {
        Protocol::Tcp => flags & (SYN | ACK) == SYN,
        Protocol::Sctp => flags == INIT,
        Protocol::Udp => false,
    }
}

impl What {
    fn of(number: IpNumber, payload: &[u8]) -> Self {
        let byte = |at: usize| payload.get(at).copied();
        let protocol = match number {
            IpNumber::TCP => Some(Protocol::Tcp),
            IpNumber::UDP => Some(Protocol::Udp),
            IpNumber::SCTP => Some(Protocol::Sctp),
            _ => None,
        };
        // Eight bytes are all that an error may quote of a packet, so no whole header is asked for.
        if let (Some(protocol), Some((&[a, b, c, d], rest))) =
            (protocol, payload.split_first_chunk())
        {
            let sequence = rest.first_chunk().copied().unwrap_or_default();
            return Self::Flow {
                protocol,
                ports: [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])],
                flags: match protocol {
                    Protocol::Tcp => byte(13).unwrap_or_default(),
                    Protocol::Sctp => byte(12).unwrap_or_default(),
                    Protocol::Udp => 0,
                },
                sequence: u32::from_be_bytes(sequence),
            };
        }
        match (number, byte(0), byte(1)) {
            (IpNumber::ICMP | IpNumber::IPV6_ICMP, Some(kind), Some(code)) => {
                let is_error = if number == IpNumber::ICMP {
                    [3, 4, 5, 11, 12].contains(&kind)
                } else {
                    kind < 128
                };
                let quoted = payload.get(8..).filter(|_| is_error);
                let quoted = quoted.and_then(|quoted| LaxSlicedPacket::from_ip(quoted).ok());
                let about = quoted.and_then(|quoted| Carried::of(&quoted)).map(Box::new);
                Self::Icmp { kind, code, about }
            }
            _ => Self::Other(number.0),
        }
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            destination,
            is_fragment: _,
            what,
        } = self;
        match what {
            What::Flow {
                protocol,
                ports: [from, to],
                flags,
                sequence: _,
            } => {
                let (from, to) = (
                    SocketAddr::new(*source, *from),
                    SocketAddr::new(*destination, *to),
                );
                write!(f, "{from} > {to} {protocol}")?;
                if *protocol == Protocol::Tcp {
                    let set = TCP_FLAGS.iter().filter(|(bit, _)| flags & bit != 0);
                    let set: String = set.map(|(_, letter)| *letter).collect();
                    write!(f, " [{set}]")?;
                }
                Ok(())
            }
            What::Icmp { kind, code, about } => {
                let name = if source.is_ipv4() { "icmp" } else { "icmp6" };
                write!(f, "{source} > {destination} {name} {kind}/{code}")?;
                match about {
                    Some(about) => write!(f, " about {about}"),
                    None => Ok(()),
                }
            }
            What::Fragment => write!(f, "{source} > {destination} fragment"),
            What::Other(number) => write!(f, "{source} > {destination} protocol {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const CLIENT: [u8; 4] = [203, 0, 113, 9];
    const VIP: [u8; 4] = [192, 0, 2, 10];

    fn tcp(from: [u8; 4], ports: [u16; 2], to: [u8; 4]) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(from, to, 64)
            .tcp(ports[0], ports[1], 77, 1000)
            .syn()
            .write(&mut frame, &[])
            .unwrap();
        frame
    }

    #[test]
    fn a_segment_says_its_flow() {
        let carried = Carried::of_frame(&tcp(CLIENT, [51_812, 443], VIP)).unwrap();
        assert_eq!(
            carried.to_string(),
            "203.0.113.9:51812 > 192.0.2.10:443 tcp [S]"
        );
        let flow = carried.flow().unwrap();
        assert_eq!(flow.destination, "192.0.2.10:443".parse().unwrap());
        assert!(flow.syn);
        assert_eq!(flow.sequence, Some(77));
    }

    #[test]
    fn an_error_is_about_the_flow_of_the_other_end() {
        let quoted = &tcp(VIP, [443, 51_812], CLIENT)[14..14 + 28];
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 9, 9, 9], VIP, 64)
            .icmpv4_raw(3, 4, [0, 0, 5, 120])
            .write(&mut frame, quoted)
            .unwrap();
        let carried = Carried::of_frame(&frame).unwrap();
        assert_eq!(
            carried.to_string(),
            "10.9.9.9 > 192.0.2.10 icmp 3/4 about 192.0.2.10:443 > 203.0.113.9:51812 tcp []"
        );
        let flow = carried.flow().unwrap();
        assert_eq!(flow.source, "203.0.113.9:51812".parse().unwrap());
        assert_eq!(flow.destination, "192.0.2.10:443".parse().unwrap());
        assert!(!flow.syn);
    }

    #[test]
    fn what_is_no_packet_is_none() {
        assert_eq!(Carried::of_frame(&[0; 60]), None);
        assert_eq!(Carried::of_frame(&[]), None);
    }
}
