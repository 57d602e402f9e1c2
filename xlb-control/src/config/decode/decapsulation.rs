//! The file of a backend that decapsulates.

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    hash::Hash,
    net::IpAddr,
};

use ipnet::IpNet;
use toml::de::DeTable;

use super::{
    complaints::Complaints,
    dataplane::interfaces,
    schema,
    section::{Section, Value},
    syntax,
    values::{boolean, choice, string, vip},
};
use crate::config::{
    Decapsulation, Diagnostics, Loaded, Vip,
    limits::{MAX_BACKEND_VIPS, MAX_BALANCER_PREFIXES},
    rules::{self, Role},
};

/// Reads the text of a file.
pub(in crate::config) fn decapsulation(
    file: &str,
    text: &str,
) -> Result<Loaded<Decapsulation>, Diagnostics> {
    let mut out = Complaints::new(file, text);
    let (root, faults) = DeTable::parse_recoverable(text);
    if !faults.is_empty() {
        syntax::complain(&faults, &mut out);
        return Err(out.finish());
    }
    let root = Section::new(
        "the file",
        0..0,
        root.get_ref(),
        schema::BACKEND_DOCUMENT,
        &mut out,
    );
    let config = match root.get("backend") {
        Some(value) => value
            .section("[backend]", "[backend]", schema::DECAPSULATION, &mut out)
            .map(|section| backend(&section, &mut out)),
        None => {
            out.error(
                0..0,
                "the file has no [backend]",
                "add `[backend]`, and below it `interfaces`, `balancers` and `vips`".to_owned(),
            );
            None
        }
    };
    match config {
        Some(config) if !out.has_errors() => Ok(Loaded {
            config,
            warnings: out.finish(),
        }),
        Some(_) | None => Err(out.finish()),
    }
}

/// Decodes the table. What is broken is complained about and is left out.
fn backend(section: &Section<'_>, out: &mut Complaints<'_>) -> Decapsulation {
    Decapsulation {
        interfaces: section
            .required("interfaces", "[\"eth0\"]", out, interfaces)
            .unwrap_or_default(),
        mode: section.optional("mode", out, choice).unwrap_or_default(),
        balancers: section
            .required("balancers", "[\"10.0.0.0/24\"]", out, balancers)
            .unwrap_or_default(),
        vips: section
            .required("vips", "[\"192.0.2.10\"]", out, vips)
            .unwrap_or_default(),
        peers: section.optional("peers", out, peers).unwrap_or_default(),
        loopback: section.optional("loopback", out, boolean).unwrap_or(true),
    }
}

fn balancers(value: Value<'_>, out: &mut Complaints<'_>) -> Option<Vec<IpNet>> {
    let example = "balancers = [\"10.0.0.0/24\"]";
    let elements = value.array("prefixes", example, out)?;
    if elements.is_empty() {
        out.error(
            value.span(),
            "`balancers` is empty: every encapsulated packet would be dropped",
            format!("name the addresses that balancers send from: `{example}`"),
        );
    }
    let prefixes = distinct("prefix", &elements, out, |value, out| {
        let prefix = prefix(value, Role::Balancer, out)?;
        if prefix.prefix_len() == 0 {
            out.warning(
                value.span(),
                format!("{prefix}: any host may send packets to the VIPs through this one"),
                "name the addresses of the balancers alone".to_owned(),
            );
        }
        Some(prefix)
    });
    bounded(
        value,
        MAX_BALANCER_PREFIXES,
        "prefixes",
        prefixes.iter().map(IpNet::addr),
        out,
    );
    Some(prefixes)
}

fn peers(value: Value<'_>, out: &mut Complaints<'_>) -> Option<Vec<IpNet>> {
    let elements = value.array("prefixes", "peers = [\"10.0.1.0/24\"]", out)?;
    let prefixes = distinct("prefix", &elements, out, |value, out| {
        prefix(value, Role::Backend, out)
    });
    let addresses = prefixes.iter().map(IpNet::addr);
    bounded(value, MAX_BALANCER_PREFIXES, "prefixes", addresses, out);
    Some(prefixes)
}

fn prefix(value: Value<'_>, role: Role, out: &mut Complaints<'_>) -> Option<IpNet> {
    match rules::parse_prefix(string(value, out)?, role) {
        Ok(prefix) => Some(prefix),
        Err(fault) => {
            out.error(value.span(), fault.message, fault.help);
            None
        }
    }
}

fn vips(value: Value<'_>, out: &mut Complaints<'_>) -> Option<Vec<IpAddr>> {
    let example = "vips = [\"192.0.2.10\"]";
    let elements = value.array("addresses", example, out)?;
    if elements.is_empty() {
        out.error(
            value.span(),
            "`vips` is empty: every encapsulated packet would be dropped",
            format!("name the VIPs of the services that this host is a backend of: `{example}`"),
        );
    }
    let prefixes = distinct("VIP", &elements, out, |value, out| {
        let vip = vip(value, out)?;
        if vip.is_narrow() {
            return Some(vip);
        }
        out.error(
            value.span(),
            format!("{vip} has more than 256 addresses, each of which would be a VIP of this host"),
            "name longer prefixes".to_owned(),
        );
        None
    });
    let mut seen = HashSet::new();
    let vips: Vec<IpAddr> = prefixes
        .into_iter()
        .flat_map(Vip::addresses)
        .filter(|&vip| seen.insert(vip))
        .collect();
    bounded(
        value,
        MAX_BACKEND_VIPS,
        "addresses",
        vips.iter().copied(),
        out,
    );
    Some(vips)
}

/// Decodes the elements, and complains of those that stand there twice.
fn distinct<T: Copy + Eq + Hash + Display>(
    what: &str,
    elements: &[Value<'_>],
    out: &mut Complaints<'_>,
    decode: impl Fn(Value<'_>, &mut Complaints<'_>) -> Option<T>,
) -> Vec<T> {
    let mut first_at = HashMap::new();
    let mut found = Vec::with_capacity(elements.len());
    for &element in elements {
        let Some(decoded) = decode(element, out) else {
            continue;
        };
        if let Some(first) = first_at.get(&decoded) {
            let place = out.place(first);
            out.error(
                element.span(),
                format!("{what} {decoded} stands here twice"),
                format!("the first is at {place}; remove one"),
            );
        } else {
            first_at.insert(decoded, element.span());
            found.push(decoded);
        }
    }
    found
}

/// Complains when there are more of a family than the program's maps hold.
fn bounded(
    value: Value<'_>,
    most: usize,
    what: &str,
    addresses: impl Iterator<Item = IpAddr>,
    out: &mut Complaints<'_>,
) {
    let (v4, v6): (Vec<_>, Vec<_>) = addresses.partition(IpAddr::is_ipv4);
    let longest = v4.len().max(v6.len());
    if longest > most {
        out.error(
            value.span(),
            format!("`{}` has {longest} {what} of one family", value.key),
            format!("name at most {most}"),
        );
    }
}
