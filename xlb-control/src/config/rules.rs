//! Rules of single values, for what is read from the file and what commands bring.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    Vip,
    limits::{MAX_INTERFACE_BYTES, MAX_NAME_BYTES},
};

/// What is wrong with a value, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: Some(help.into()),
        }
    }

    /// As one sentence.
    pub(super) fn sentence(self) -> String {
        match self.help {
            Some(help) => format!("{}; {help}", self.message),
            None => self.message,
        }
    }
}

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Vip,
    Backend,
    TunnelSource,
    NatSource,
    Balancer,
    /// Where a program on this host takes connections in.
    Listener,
}

impl Role {
    const fn word(self) -> &'static str {
        match self {
            Self::Vip => "a VIP",
            Self::Backend => "a backend's address",
            Self::TunnelSource => "a tunnel's source",
            Self::NatSource => "a source of full NAT",
            Self::Balancer => "a balancer's address",
            Self::Listener => "a listener's address",
        }
    }
}

/// Checks the name of a pool or service.
pub(super) fn name(text: &str) -> Result<(), Fault> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() {
        return Err(Fault::new("the name is empty", NAME_HELP));
    }
    if let Some(c) = text.chars().find(|c| !allowed(*c)) {
        return Err(Fault::new(
            format!("a name can't contain `{}`", c.escape_debug()),
            NAME_HELP,
        ));
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(Fault::new(
            format!("the name is {} bytes long", text.len()),
            NAME_HELP,
        ));
    }
    Ok(())
}

const NAME_HELP: &str = "use 1 to 63 of A-Z, a-z, 0-9, `.`, `_` and `-`";
const _: () = assert!(MAX_NAME_BYTES == 63, "NAME_HELP says 63");

/// Checks the name of an interface by the kernel's rules (`dev_valid_name`).
pub(super) fn interface(text: &str) -> Result<(), Fault> {
    let help = "`ip link` lists the interfaces";
    if text.is_empty() {
        return Err(Fault::new("the interface's name is empty", help));
    }
    if text.len() > MAX_INTERFACE_BYTES {
        return Err(Fault::new(
            format!(
                "`{text}` is {} bytes long, and an interface's name at most {MAX_INTERFACE_BYTES}",
                text.len()
            ),
            help,
        ));
    }
    let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if matches!(text, "." | "..") || text.contains(forbidden) {
        return Err(Fault::new(
            format!("`{text}` can't be the name of an interface"),
            help,
        ));
    }
    Ok(())
}

/// Reads an address and checks that it can be what it is for.
pub(super) fn parse_address(text: &str, role: Role) -> Result<IpAddr, Fault> {
    let address = text.parse::<IpAddr>().map_err(|_| not_an_address(text))?;
    address_for(address, role)?;
    Ok(address)
}

/// Checks that an address can be what it is for.
pub(super) fn address_for(address: IpAddr, role: Role) -> Result<(), Fault> {
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        return Err(Fault::new(
            format!("{address} is an IPv4 address in IPv6 notation"),
            format!("write it as `{v4}`"),
        ));
    }
    let kind = match address {
        _ if address.is_unspecified() => "the unspecified address",
        _ if role == Role::Listener && address.is_loopback() => return Ok(()),
        _ if address.is_loopback() => "a loopback address",
        _ if address.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V4(v4) if v4.octets()[0] == 0 => "in 0.0.0.0/8, which names no host",
        IpAddr::V4(_) | IpAddr::V6(_) => return Ok(()),
    };
    Err(Fault::new(
        format!("{address} can't be {}: it is {kind}", role.word()),
        "use the unicast address of a host",
    ))
}

/// Reads a prefix of addresses, or one address.
pub(super) fn parse_prefix(text: &str, role: Role) -> Result<IpNet, Fault> {
    if !text.contains('/') {
        return parse_address(text, role).map(IpNet::from);
    }
    let prefix = text.parse::<IpNet>().map_err(|_| {
        Fault::new(
            format!("`{text}` is not a prefix of IP addresses"),
            "write it as `\"10.0.0.0/24\"` or `\"fd00::/64\"`",
        )
    })?;
    if prefix.prefix_len() == prefix.max_prefix_len() {
        address_for(prefix.addr(), role)?;
    }
    if prefix.trunc() != prefix {
        return Err(Fault::new(
            format!("{prefix} has bits beyond its prefix length"),
            format!(
                "write `{}`, or `{}` for the one address",
                prefix.trunc(),
                prefix.addr()
            ),
        ));
    }
    Ok(prefix)
}

/// Checks that addresses can be a VIP.
pub(super) fn vip(vip: Vip) -> Result<(), Fault> {
    address_for(vip.address(), Role::Vip)?;
    address_for(vip.last(), Role::Vip)
}

/// Reads a VIP, or a prefix of such.
pub(super) fn parse_vip(text: &str) -> Result<Vip, Fault> {
    let found = Vip::new(parse_prefix(text, Role::Vip)?);
    vip(found)?;
    Ok(found)
}

/// Checks a port that came from a command.
pub(super) fn port(port: u16) -> Result<(), Fault> {
    match port {
        0 => Err(Fault::new("the port is 0", "it may be from 1 to 65,535")),
        1.. => Ok(()),
    }
}

/// Says what was written instead of an address.
fn not_an_address(text: &str) -> Fault {
    let message = format!("`{text}` is not an IP address");
    if let Ok(endpoint) = text.parse::<std::net::SocketAddr>() {
        return Fault::new(
            message,
            format!(
                "write the port under its own key: `\"{}\"` and `port = {}`",
                endpoint.ip(),
                endpoint.port()
            ),
        );
    }
    if let Some((address, _)) = text.split_once('/')
        && address.parse::<IpAddr>().is_ok()
    {
        return Fault::new(
            message,
            format!("write one address without a prefix length: `\"{address}\"`"),
        );
    }
    if text.contains('%') {
        return Fault::new(message, "write it without a zone (`%interface`)");
    }
    if text.chars().any(|c| c.is_ascii_alphabetic()) && !text.contains(':') {
        return Fault::new(
            message,
            "host names are not looked up; write the address itself",
        );
    }
    Fault::new(
        message,
        "write it as `\"192.0.2.10\"` or `\"2001:db8::10\"`",
    )
}
