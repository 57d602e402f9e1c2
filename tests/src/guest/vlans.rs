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
        let mut devices = Vec::new();
        for vlan in [self.client, self.backends] {
            let name = format!("\"eth0.{vlan}\"");
            if vlan != 0 && !devices.contains(&name) {
                self.join(&balancer.ns, vlan, 1);
                devices.push(name);
            }
        }
        self.join(&topology.client.ns, self.client, 2);
        let (from, to) = (self.address(self.client, 1), self.address(self.backends, 1));
        topology
            .client
            .ns
            .ip(&format!("route replace {} via {from}", self.vip()));
        let family = if self.v6 { "-6" } else { "-4" };
        let _servers: Vec<Backend> = (11..)
            .zip(&topology.backends)
            .map(|(last, host)| {
                self.join(&host.ns, self.backends, last);
                host.ns
                    .ip(&format!("{family} route replace default via {to}"));
                self.serve(host, last)
            })
            .collect();
        let agent = Agent::start(&balancer.ns, &self.config(&devices.join(", ")));
        wait_until("every backend is up", PATIENCE, || {
            let health = agent.cli(&["health", "-o", "json"]);
            let backends = health.as_array().expect("health is a list");
            backends.iter().all(|backend| backend["state"] == "up")
        });
        let client = &topology.client.ns;
        traffic::requests(client, SocketAddr::new(self.vip(), WEB_PORT));
        traffic::datagrams(client, SocketAddr::new(self.vip(), ECHO_PORT));
        let packets = forwarded(&agent);
        assert!(packets > 0, "xlb has forwarded nothing");
        Counted {
            packets,
            ..Counted::default()
        }
    }

    /// Gives a host an address in a VLAN.
    fn join(self, ns: &NetNs, vlan: u16, last: u16) {
        let device = if vlan == 0 {
            "eth0".to_owned()
        } else {
            ns.ip(&format!(
                "link add link eth0 name eth0.{vlan} type vlan id {vlan}"
            ));
            ns.ip(&format!("link set eth0.{vlan} up"));
            format!("eth0.{vlan}")
        };
        let (bits, more) = if self.v6 { (64, " nodad") } else { (24, "") };
        let address = self.address(vlan, last);
        ns.ip(&format!("addr replace {address}/{bits} dev {device}{more}"));
    }

    fn address(self, vlan: u16, last: u16) -> IpAddr {
        let text = if self.v6 {
            format!("fd81:0:0:{vlan}::{last}")
        } else {
            format!("10.81.{vlan}.{last}")
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

    fn serve(self, host: &Host, last: u16) -> Backend {
        let at = |port| vec![SocketAddr::new(self.address(self.backends, last), port)];
        let kind = BackendKind::BuiltIn {
            http: at(WEB_PORT),
            udp: at(ECHO_PORT),
        };
        Backend::start(&host.ns, host.name(), kind)
    }

    fn config(self, devices: &str) -> String {
        let service = |name: &str, protocol: &str, port: u16| {
            let backends: String = [11, 12]
                .map(|last| self.address(self.backends, last))
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
