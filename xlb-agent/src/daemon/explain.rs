//! `explain`: what becomes of a packet, from the live maps, with an agent or without.

use anyhow::Context;
use nix::net::if_::if_indextoname;
use xlb_common::maps::vlan_of;
use xlb_control::{
    api::{ExplainRequest, Explanation},
    config::{Config, HashKey},
};

use super::{Daemon, now_s, spec::hash_words, state};
use crate::{
    dataplane::{self, Maps},
    engine::{self, ServiceKey, goal},
    explain::{self, Facts},
    options::Options,
};

impl Daemon {
    /// What the data path would do with a packet. Nothing is written.
    ///
    /// # Errors
    ///
    /// When there is no such packet, or the maps can't be read.
    pub(super) fn explain(&self, packet: &ExplainRequest) -> Result<Explanation, String> {
        let dataplane = &self.engine.dataplane;
        let key = explain::flow_of(packet)?;
        let hash_key = dataplane.spec().hash_key;
        let facts = explain::gather(dataplane.maps(), hash_key, &key, packet.fragment, now_s())
            .map_err(|error| format!("read the tables of flows: {error}"))?;
        let name_of = |egress| interface(dataplane.maps(), egress);
        let mut explanation = explain::explain(packet, &facts, name_of);
        name_service(&mut explanation, &facts, &self.merged.config);
        Ok(explanation)
    }
}

/// The same from the pinned maps, while no agent answers.
///
/// # Errors
///
/// When nothing is pinned, the maps are of another version, or the hash key is not known.
pub fn explain_alone(options: &Options, packet: &ExplainRequest) -> anyhow::Result<Explanation> {
    let key = explain::flow_of(packet).map_err(anyhow::Error::msg)?;
    let config = Config::load(&options.config).map(|loaded| loaded.config);
    let configured = config
        .as_ref()
        .ok()
        .and_then(|config| config.dataplane.hash_key);
    let hash_key = match configured {
        Some(HashKey(key)) => key,
        None => state::kept_hash_key(&options.state_dir)?.with_context(|| {
            format!(
                "the hash key is not known: neither {} nor {} has it",
                options.config.display(),
                options.state_dir.display()
            )
        })?,
    };
    let maps = dataplane::pinned_maps(&options.pin_dir)?;
    let hash_key = hash_words(hash_key);
    let facts = explain::gather(&maps, hash_key, &key, packet.fragment, now_s())
        .context("read the tables of flows")?;
    let mut explanation = explain::explain(packet, &facts, |egress| interface(&maps, egress));
    if let Ok(config) = &config {
        name_service(&mut explanation, &facts, config);
    }
    explanation.notes.push(format!(
        "no agent answers: this is what stands in the maps under {}, with the hash key of {}",
        options.pin_dir.display(),
        if configured.is_some() {
            options.config.display()
        } else {
            options.state_dir.display()
        }
    ));
    Ok(explanation)
}

/// The name of an interface by its index in `EGRESS`, and the VLAN that packets leave it in.
pub(super) fn interface(maps: &Maps, egress: u16) -> String {
    let Some(egress) = maps.egress.get(egress.into()) else {
        return "?".to_owned();
    };
    let name = if_indextoname(egress.ifindex).map_or_else(
        |_| "?".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    match vlan_of(egress.tag) {
        Some(vlan) => format!("{name} vlan {vlan}"),
        None => name,
    }
}

/// Adds the name by which the configuration knows the service.
fn name_service(explanation: &mut Explanation, facts: &Facts, config: &Config) {
    let (Some(service), Some(entry)) = (&mut explanation.service, facts.service()) else {
        return;
    };
    let key: ServiceKey = engine::key_of(entry);
    let mut services = config.services.values();
    service.name = services
        .find(|service| engine::key_of(&goal::of_service(service)) == key)
        .map(|service| service.name.clone());
}
