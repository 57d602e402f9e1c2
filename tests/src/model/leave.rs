//! How frames leave.

use std::net::IpAddr;

use xlb_common::{
    maps::feature,
    reason::{Action, Reason},
};

use super::{balance::Model, tags, world::Way};

/// The kernel's number of the interface that frames come in on.
const INGRESS: u32 = 1;

impl Model {
    /// Addresses a frame to its next hop (RFC 894, RFC 2464).
    pub(super) fn leave(&mut self, frame: &mut Vec<u8>, way: Way) -> Result<Action, Reason> {
        let place = usize::from(way.egress).checked_sub(1);
        let interface = *place
            .and_then(|place| self.world.interfaces.get(place))
            .ok_or(Reason::Inconsistent)?;
        frame[..6].copy_from_slice(&way.mac);
        frame[6..12].copy_from_slice(&interface.mac);
        if self.world.has(feature::VLAN) {
            self.keeps_tags = false;
            if interface.tag != 0 {
                tags::put_back(&interface.tag.to_ne_bytes(), frame);
            }
        }
        if self.world.has(feature::REDIRECT) && interface.ifindex != INGRESS {
            Ok(Action::Redirect)
        } else {
            Ok(Action::Tx)
        }
    }

    /// The way to a client, for a packet with this TTL or hop limit. The host has no route.
    pub(super) fn way_to_client(&mut self, client: IpAddr, ttl: u8) -> Result<Way, Reason> {
        match self.world.route(client).map(|route| route.way) {
            // What has arrived needs no TTL (RFC 1812, section 5.3.1).
            Some(None) => Err(Reason::ReplyToHost),
            _ if ttl <= 1 => Err(Reason::TtlExpired),
            Some(Some(way)) => Ok(way),
            None => {
                self.events.push(Reason::FibLookup);
                Err(Reason::ClientUnresolved)
            }
        }
    }
}
