//! From the text of a file to a configuration, with every complaint at once.
//!
//! Decoding goes on after a complaint: what is broken is left out or stands as a default, so that
//! the rest is checked as well. The result is used only when there was no error.

mod complaints;
mod dataplane;
mod decapsulation;
mod local;
mod nat;
mod policy;
mod pool;
mod schema;
mod section;
mod service;
mod syntax;
mod values;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
};

use complaints::Complaints;
pub(super) use decapsulation::decapsulation;
use pool::BackendPlaces;
pub(super) use pool::uneven;
use section::{Section, Value};
use service::{Decoded, ServicePlaces};
pub(super) use syntax::not_utf8;
use toml::de::DeTable;

use super::{
    Config, Dataplane, Diagnostics, Loaded, Mode, NatTimeouts, Pool, PortRange, Service, Settle,
    invariants::{self, Subject, Violation},
    limits::{DEFAULT_MAX_FLOWS, DEFAULT_MAX_FRAGMENTED, DEFAULT_MAX_PENDING},
};

/// Reads the text of a file.
pub(super) fn decode(file: &str, text: &str) -> Result<Loaded, Diagnostics> {
    let mut out = Complaints::new(file, text);
    let (root, faults) = DeTable::parse_recoverable(text);
    if !faults.is_empty() {
        // What the parser made of the rest is guesswork, and complaints about it would mislead.
        syntax::complain(&faults, &mut out);
        return Err(out.finish());
    }
    let mut document = Document::default();
    let section = Section::new("the file", 0..0, root.get_ref(), schema::DOCUMENT, &mut out);
    let dataplane = dataplane_of(&section, &mut out);
    for (element, section) in tables(&section, "pool", "[[pool]]", schema::POOL, &mut out) {
        document.add_pool(element, &section, &mut out);
    }
    for (_, section) in tables(
        &section,
        "service",
        "[[service]]",
        schema::SERVICE,
        &mut out,
    ) {
        let decoded = service::service(&section, &mut out);
        document.add_service(decoded, &mut out);
    }
    document.finish(dataplane, out)
}

fn dataplane_of(root: &Section<'_>, out: &mut Complaints<'_>) -> Dataplane {
    let section = match root.get("dataplane") {
        Some(value) => value.section("[dataplane]", "[dataplane]", schema::DATAPLANE, out),
        None => {
            out.error(
                0..0,
                "the file has no [dataplane]",
                "add `[dataplane]`, and below it `interfaces = [\"eth0\"]`".to_owned(),
            );
            None
        }
    };
    section.map_or_else(
        || Dataplane {
            interfaces: Vec::new(),
            vlans: Vec::new(),
            mode: Mode::default(),
            hash_key: None,
            tunnel_source_v4: None,
            tunnel_source_v6: None,
            settle: Settle::default(),
            max_flows: DEFAULT_MAX_FLOWS,
            max_pending: DEFAULT_MAX_PENDING,
            nat_source: Vec::new(),
            nat_ports: PortRange::default(),
            nat_timeouts: NatTimeouts::default(),
            max_fragmented: DEFAULT_MAX_FRAGMENTED,
        },
        |section| dataplane::dataplane(&section, out),
    )
}

/// The tables of an array of tables.
fn tables<'a>(
    root: &Section<'a>,
    key: &str,
    title: &'static str,
    known: &[&'static str],
    out: &mut Complaints<'_>,
) -> Vec<(Value<'a>, Section<'a>)> {
    root.get(key)
        .and_then(|value| value.array("tables", title, out))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|element| Some((element, element.section(title, title, known, out)?)))
        .collect()
}

/// What has been read so far, and where it stands.
#[derive(Default)]
struct Document {
    pools: BTreeMap<String, Pool>,
    services: BTreeMap<String, Service>,
    /// Services of which all is sound but `forward`.
    lacking_forward: Vec<String>,
    /// Names of services of which more is wrong, and of their pools.
    incomplete: Vec<(String, String)>,
    pool_places: HashMap<String, (Range<usize>, BackendPlaces)>,
    service_places: HashMap<String, ServicePlaces>,
    /// Names of pools that some service names.
    used_pools: HashSet<String>,
}

impl Document {
    fn add_pool(&mut self, element: Value<'_>, section: &Section<'_>, out: &mut Complaints<'_>) {
        let name = section.required("name", "\"web\"", out, values::name);
        let (pool, places) = pool::pool(name.unwrap_or("?"), section, out);
        let Some(name) = name else { return };
        let span = section.get("name").unwrap_or(element).span();
        if let Some((first, _)) = self.pool_places.get(name) {
            complain_of_repeated("pool", name, span, first, out);
            return;
        }
        self.pool_places.insert(name.to_owned(), (span, places));
        self.pools.insert(name.to_owned(), pool);
    }

    fn add_service(&mut self, decoded: Decoded, out: &mut Complaints<'_>) {
        self.used_pools.extend(decoded.names_pool.clone());
        let Some(name) = decoded.name else { return };
        if let Some(first) = self.service_places.get(&name) {
            complain_of_repeated("service", &name, decoded.places.name, &first.name, out);
            // Who copies a service and forgets its name may have forgotten its VIP, too.
            if let Some(service) = &decoded.service {
                self.complain_of_vip(service, &decoded.places.vip, out);
            }
            return;
        }
        if let Some((pool, places)) = decoded.inline {
            let span = decoded.places.name.clone();
            self.used_pools.insert(name.clone());
            if let Some((other, _)) = self.pool_places.get(&name) {
                let place = out.place(other);
                out.error(
                    span,
                    format!("the backends of service `{name}` make a pool `{name}`, which exists already"),
                    format!("the other is at {place}; rename one, or write `pool = \"{name}\"` instead"),
                );
            } else {
                self.pool_places.insert(name.clone(), (span, places));
                self.pools.insert(name.clone(), pool);
            }
        }
        self.service_places.insert(name.clone(), decoded.places);
        if let Some(service) = decoded.service {
            if decoded.lacks_forward {
                self.lacking_forward.push(name.clone());
            }
            self.services.insert(name, service);
        } else if let Some(pool) = decoded.names_pool {
            self.incomplete.push((name, pool));
        }
    }

    /// The VIP of a service whose name is taken must not be taken as well.
    fn complain_of_vip(&self, service: &Service, span: &Range<usize>, out: &mut Complaints<'_>) {
        let listener = |service: &Service| (service.at(), service.protocol);
        let mut services = self.services.values();
        let Some(other) = services.find(|other| listener(other) == listener(service)) else {
            return;
        };
        let vip = service.at();
        let help = "give one of them another VIP, port or protocol";
        let place = self
            .service_places
            .get(&other.name)
            .map_or_else(String::new, |places| {
                format!("; the other is at {}", out.place(&places.vip))
            });
        out.error(
            span.clone(),
            format!(
                "services `{}` and `{}` both have the VIP {vip}/{}",
                other.name, service.name, service.protocol
            ),
            format!("{help}{place}"),
        );
    }

    fn finish(self, dataplane: Dataplane, mut out: Complaints<'_>) -> Result<Loaded, Diagnostics> {
        let mut config = Config {
            dataplane,
            pools: self.pools,
            services: self.services,
        };
        let places = Places {
            pools: self.pool_places,
            services: self.service_places,
        };
        let mut violations = invariants::between_services(&config);
        for (name, pool) in &self.incomplete {
            violations.extend(invariants::unknown_pool(&config, name, pool));
        }
        // What a backend must be depends on `forward`.
        for name in &self.lacking_forward {
            config.services.remove(name);
        }
        violations.extend(invariants::of_backends(&config));
        for violation in violations {
            places.complain(violation, &mut out);
        }
        if out.has_errors() {
            return Err(out.finish());
        }
        for (name, (span, _)) in &places.pools {
            if !self.used_pools.contains(name) {
                out.warning(
                    span.clone(),
                    format!("no service uses pool `{name}`"),
                    format!("write `pool = \"{name}\"` in a [[service]], or remove the pool"),
                );
            }
        }
        Ok(Loaded {
            config,
            warnings: out.finish(),
        })
    }
}

fn complain_of_repeated(
    what: &str,
    name: &str,
    span: Range<usize>,
    first: &Range<usize>,
    out: &mut Complaints<'_>,
) {
    let place = out.place(first);
    out.error(
        span,
        format!("{what} `{name}` exists already"),
        format!("the first is at {place}; rename one"),
    );
}

/// Where the subjects of the rules stand.
struct Places {
    pools: HashMap<String, (Range<usize>, BackendPlaces)>,
    services: HashMap<String, ServicePlaces>,
}

impl Places {
    /// Turns a broken rule into a complaint about the place that stands later in the file.
    fn complain(&self, violation: Violation, out: &mut Complaints<'_>) {
        let at = self.span(&violation.at);
        let Some(other) = violation.other.as_ref().map(|other| self.span(other)) else {
            out.error(at, violation.message, violation.help);
            return;
        };
        let (first, second) = if at.start <= other.start {
            (at, other)
        } else {
            (other, at)
        };
        let place = out.place(&first);
        out.error(
            second,
            violation.message,
            format!("{}; the other is at {place}", violation.help),
        );
    }

    fn span(&self, subject: &Subject) -> Range<usize> {
        let span = match subject {
            Subject::Vip { service } => self.services.get(service).map(|at| at.vip.clone()),
            Subject::Forward { service } => self.services.get(service).map(|at| at.forward.clone()),
            Subject::PoolOf { service } => self.services.get(service).map(|at| at.pool.clone()),
            Subject::Pool { pool } => self.pools.get(pool).map(|(name, _)| name.clone()),
            Subject::Backend { pool, endpoint } => self
                .pools
                .get(pool)
                .and_then(|(_, backends)| backends.get(endpoint))
                .cloned(),
            Subject::Everything => None,
        };
        span.unwrap_or(0..0)
    }
}
