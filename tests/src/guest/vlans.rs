//! VLANs against the kernel's own VLAN devices, on top of the interface that xlb is attached to.

use std::{net::IpAddr, net::SocketAddr, time::Duration};

use super::{Check, Counted, passage::forwarded, traffic};
use crate::lab::{
    Agent, Backend, BackendKind, Host, Lab, NetNs, Topology, VIP_V4, VIP_V6, wait_until,
};

/// How long backends may take to be up on a machine that is emulated.
const PATIENCE: Duration = Duration::from_secs(60);

const WEB_PORT: u16 = 80;
const ECHO_PORT: u16 = 7;

/// Subnets of backends are numbered from here on, so that they are not that of clients in the same VLAN,
/// which backends under `dnat` would answer directly.
const BACKENDS_SUBNET: u16 = 100;

/// In which VLANs client and backends are; 0: in none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vlans {
    pub(super) client: u16,
    pub(super) backends: u16,
    pub(super) v6: bool,
}

impl Vlans {
    pub(super) fn into_check(self) -> Check {
        let of = |vlan| match vlan {
            0 => "no VLAN".to_owned(),
            vlan => format!("VLAN {vlan}"),
        };
        Check {
            name: format!(
                "dnat of {} from {} to {}",
                if self.v6 { "IPv6" } else { "IPv4" },
                of(self.client),
                of(self.backends)
            ),
            run: Box::new(move || self.pass()),
        }
    }

    fn pass(self) -> Counted {
        let lab = Lab::new("vlans");
        let topology = Topology::one_link(&lab, 2);
        let balancer = &topology.balancer;
        let hosts = [&topology.client, balancer]
            .into_iter()
            .chain(&topology.backends);
        for host in hosts {
            // The tag belongs into the frame, where XDP sees it.
            let off = ["rxvlan", "off", "txvlan", "off"];
            host.ns
                .exec(&[&["ethtool", "-K", "eth0"][..], &off].concat());
            let port = [&["ethtool", "-K", host.name()][..], &off].concat();
            topology.switch.exec(&port);
        }
        let mut vlans: Vec<u16> = vec![self.client, self.backends];
        vlans.dedup();
        for &vlan in &vlans {
            add_device(&balancer.ns, vlan);
        }
        let (front, back) = (self.client, self.backends + BACKENDS_SUBNET);
        self.add_address(&balancer.ns, self.client, front, 1);
        self.add_address(&balancer.ns, self.backends, back, 1);
        let client = &topology.client.ns;
        add_device(client, self.client);
        self.add_address(client, self.client, front, 2);
        let from = self.address(front, 1);
        client.ip(&format!("route replace {} via {from}", self.vip()));
        let family = if self.v6 { "-6" } else { "-4" };
        let to = self.address(back, 1);
        let _servers: Vec<Backend> = (11..)
            .zip(&topology.backends)
            .map(|(last, host)| {
                add_device(&host.ns, self.backends);
                self.add_address(&host.ns, self.backends, back, last);
                host.ns
                    .ip(&format!("{family} route replace default via {to}"));
                Self::serve(host, self.address(back, last))
            })
            .collect();
        let devices: Vec<String> = vlans
            .iter()
            .filter(|vlan| **vlan != 0)
            .map(|vlan| format!("\"eth0.{vlan}\""))
            .collect();
        let agent = Agent::start(&balancer.ns, &self.config(&devices.join(", ")));
        wait_until("every backend is up", PATIENCE, || {
            let health = agent.cli(&["health", "-o", "json"]);
            let backends = health.as_array().expect("health is a list");
            backends.iter().all(|backend| backend["state"] == "up")
        });
        traffic::requests(client, SocketAddr::new(self.vip(), WEB_PORT));
        traffic::datagrams(client, SocketAddr::new(self.vip(), ECHO_PORT));
        let packets = forwarded(&agent);
        assert!(packets > 0, "xlb has forwarded nothing");
        Counted {
            packets,
            ..Counted::default()
        }
    }

    /// Gives a host an address of a subnet in a VLAN.
    fn add_address(self, ns: &NetNs, vlan: u16, subnet: u16, last: u16) {
        let (bits, more) = if self.v6 { (64, " nodad") } else { (24, "") };
        let (address, device) = (self.address(subnet, last), device(vlan));
        ns.ip(&format!("addr replace {address}/{bits} dev {device}{more}"));
    }

    fn address(self, subnet: u16, last: u16) -> IpAddr {
        let text = if self.v6 {
            format!("fd81:0:0:{subnet}::{last}")
        } else {
            format!("10.81.{subnet}.{last}")
        };
        text.parse().expect("an address")
    }

    const fn vip(self) -> IpAddr {
        if self.v6 {
            IpAddr::V6(VIP_V6)
        } else {
            IpAddr::V4(VIP_V4)
        }
    }

    fn serve(host: &Host, address: IpAddr) -> Backend {
        let at = |port| vec![SocketAddr::new(address, port)];
        let kind = BackendKind::BuiltIn {
            http: at(WEB_PORT),
            udp: at(ECHO_PORT),
        };
        Backend::start(&host.ns, host.name(), kind)
    }

    fn config(self, devices: &str) -> String {
        let service = |name: &str, protocol: &str, port: u16| {
            let backends: String = [11, 12]
                .map(|last| self.address(self.backends + BACKENDS_SUBNET, last))
                .map(|address| format!("{{ address = \"{address}\", port = {port} }}, "))
                .concat();
            let vip = self.vip();
            format!(
                r#"
[[service]]
name = "{name}"
vip = "{vip}"
port = {port}
protocol = "{protocol}"
forward = "dnat"
backends = [{backends}]
check = {{ type = "tcp", port = {WEB_PORT}, interval = "1s", timeout = "1s", rise = 1 }}
"#
            )
        };
        let services = service("web", "tcp", WEB_PORT) + &service("echo", "udp", ECHO_PORT);
        format!(
            "[dataplane]\ninterfaces = [\"eth0\"]\nvlans = [{devices}]\nmode = \"native\"\n{services}"
        )
    }
}

fn device(vlan: u16) -> String {
    match vlan {
        0 => "eth0".to_owned(),
        vlan => format!("eth0.{vlan}"),
    }
}

/// Puts a host into a VLAN.
fn add_device(ns: &NetNs, vlan: u16) {
    if vlan != 0 {
        let name = device(vlan);
        ns.ip(&format!(
            "link add link eth0 name {name} type vlan id {vlan}"
        ));
        ns.ip(&format!("link set {name} up"));
    }
}
