//! Writes the tables of services of several ports or addresses.

use anyhow::Result;
use aya::Ebpf;
use ipnet::IpNet;
use xlb_common::{endpoint::EndpointTarget, wide::direction};
use xlb_control::config::{
    At, Ports, Vip,
    spread::{self, Span},
};

use crate::{
    model::{Replier, World},
    programs::maps::put_ports,
};

/// What replies of a backend lead to.
pub(super) fn reply(replier: &Replier) -> EndpointTarget {
    EndpointTarget {
        service: replier.service as u32 + 1,
        backend: replier.backend,
        ..EndpointTarget::default()
    }
}

pub(super) fn write(ebpf: &mut Ebpf, world: &World) -> Result<()> {
    let services = (1..).zip(&world.services).filter(|(_, it)| !it.is_exact());
    let mut vips = Vec::new();
    for (service, it) in services {
        let ports = Ports::range(it.vip.port(), it.last_port);
        vips.push(Span {
            at: At {
                vip: Vip::new(IpNet::new(it.vip.ip(), it.bits)?),
                ports: ports.unwrap_or(Ports::ALL),
            },
            protocol: it.protocol,
            what: EndpointTarget {
                service,
                ..EndpointTarget::default()
            },
        });
    }
    let repliers = world
        .repliers()
        .filter(|it| it.ports.start() != it.ports.end());
    let replies: Vec<Span<EndpointTarget>> = repliers
        .map(|it| Span {
            at: At {
                vip: it.address.into(),
                ports: Ports::range(*it.ports.start(), *it.ports.end()).unwrap_or(Ports::ALL),
            },
            protocol: it.protocol,
            what: reply(&it),
        })
        .collect();
    let mut number = 0;
    for (direction, spans) in [(direction::VIP, vips), (direction::REPLY, replies)] {
        for table in spread::tables(&spans) {
            number += 1;
            put_ports(ebpf, direction, number, &table)?;
        }
    }
    Ok(())
}
