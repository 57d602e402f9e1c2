//! What XDP program is on an interface, asked over netlink, which needs no capability.

use std::{fmt, io};

use rtnetlink::{
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        link::{LinkAttribute, LinkMessage, LinkXdp},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};
use serde::Serialize;

/// How a program is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
    /// In the hardware.
    Hardware,
}

impl AttachMode {
    /// As the configuration and the control API call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Hardware => "hardware",
        }
    }
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mode", self.name())
    }
}

/// A program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    pub(super) mode: AttachMode,
    pub(super) program_id: u32,
}

/// The programs on an interface; `None`: there is no such interface.
pub(super) fn attached(ifindex: u32) -> io::Result<Option<Vec<Attached>>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;

    let mut link = LinkMessage::default();
    link.header.index = ifindex;
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(link));
    request.header.flags = NLM_F_REQUEST;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let (answer, _) = socket.recv_from_full()?;
    let answer =
        NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = answer.payload {
        Ok(Some(programs(&link.attributes)))
    } else if let NetlinkPayload::Error(error) = answer.payload {
        match error.to_io() {
            error if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            error => Err(error),
        }
    } else {
        Err(io::Error::other("an unexpected netlink message"))
    }
}

/// Each mode has its attribute since Linux 4.19.
fn programs(attributes: &[LinkAttribute]) -> Vec<Attached> {
    let mut programs = Vec::new();
    for attribute in attributes {
        let LinkAttribute::Xdp(xdp) = attribute else {
            continue;
        };
        for part in xdp {
            let (mode, program_id) = if let LinkXdp::DrvProgId(id) = part {
                (AttachMode::Native, *id)
            } else if let LinkXdp::SkbProgId(id) = part {
                (AttachMode::Generic, *id)
            } else if let LinkXdp::HwProgId(id) = part {
                (AttachMode::Hardware, *id)
            } else {
                continue;
            };
            programs.push(Attached { mode, program_id });
        }
    }
    programs
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::XdpAttached;

    use super::*;

    #[test]
    fn loopback_has_no_program_and_a_missing_interface_is_none() {
        assert_eq!(attached(1).expect("netlink"), Some(vec![]));
        assert_eq!(attached(0x7fff_fff0).expect("netlink"), None);
    }

    #[test]
    fn programs_are_read_with_their_modes() {
        let both = [LinkAttribute::Xdp(vec![
            LinkXdp::Attached(XdpAttached::Multiple),
            LinkXdp::ProgId(7),
            LinkXdp::DrvProgId(7),
            LinkXdp::SkbProgId(9),
        ])];
        let expected = [(AttachMode::Native, 7), (AttachMode::Generic, 9)]
            .map(|(mode, program_id)| Attached { mode, program_id });
        assert_eq!(programs(&both), expected);
        assert_eq!(programs(&[]), []);
    }
}
