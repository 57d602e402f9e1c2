//! xlb's interfaces: which there are, and where packets that leave by them find them in `EGRESS`.

mod places;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;

use self::places::Places;
use super::Daemon;
use crate::{
    dataplane::{EgressTable, rcu_grace_period},
    netlink::{Interface, InterfaceTracker, InterfaceView, Tables},
};

/// xlb's interfaces.
#[derive(Clone, Debug)]
pub(super) struct Interfaces {
    tracker: InterfaceTracker,
    /// Those that can be used, and the names of the others.
    pub(super) view: InterfaceView,
    places: Places,
    /// Those of which the log says that they cannot be used.
    refusing: BTreeSet<String>,
}

impl Interfaces {
    /// The interfaces of these names, which all have to be there.
    ///
    /// # Errors
    ///
    /// Names the first that is missing.
    pub(super) fn find(names: &[String], tables: &Tables) -> anyhow::Result<Self> {
        let mut tracker = InterfaceTracker::new(names);
        let view = tracker.view(tables);
        let found = Self {
            tracker,
            view,
            places: Places::default(),
            refusing: BTreeSet::new(),
        };
        match found.view.missing.first() {
            Some(name) => Err(missing(name)),
            None => Ok(found),
        }
    }

    /// Gives each interface its place in `EGRESS`: the one where an earlier agent has put it, so that
    /// next hops that name it stay right, or a free one.
    ///
    /// # Errors
    ///
    /// When no place is left.
    pub(super) fn settle(&mut self, egress: &EgressTable) -> anyhow::Result<()> {
        let index_of = |(name, ifindex): (&String, u32)| {
            let index = entries(egress).find(|(_, there)| *there == ifindex)?.0;
            Some((name.clone(), index))
        };
        let present = self.view.present.iter();
        let by_name: BTreeMap<String, u16> = present
            .map(|interface| (&interface.configured, interface.ifindex))
            .filter_map(index_of)
            .collect();
        let mut given_up: BTreeSet<u16> = entries(egress).map(|(index, _)| index).collect();
        given_up.retain(|index| !by_name.values().any(|kept| kept == index));
        self.places = Places { by_name, given_up };
        let names = self.view.present.iter();
        self.places = self
            .places
            .with(names.map(|interface| interface.configured.as_str()))?;
        Ok(())
    }

    /// What there would be with these names: those that stay keep what is known of them, and those
    /// that are new have to be there.
    ///
    /// # Errors
    ///
    /// Names the first that is missing.
    pub(super) fn with(&self, names: &[String], tables: &Tables) -> anyhow::Result<Self> {
        let mut tracker = self.tracker.following(names);
        let found = tracker.view(tables);
        let was = |name: &str| self.tracker.follows(name);
        if let Some(name) = found.missing.iter().find(|name| !was(name)) {
            return Err(missing(name));
        }
        let mut view = InterfaceView {
            present: Vec::new(),
            missing: found.missing,
        };
        let used = self.view.indexes();
        for interface in found.present {
            // One that is there and could not be used is still to be tried.
            if used.contains(&interface.ifindex) || !was(&interface.configured) {
                view.present.push(interface);
            } else {
                view.missing.push(interface.configured);
            }
        }
        Ok(Self {
            tracker,
            view,
            places: self.places.with(names.iter().map(String::as_str))?,
            refusing: self.refusing.clone(),
        })
    }

    /// The index in `EGRESS` of each interface that can be used.
    pub(super) fn egress(&self) -> BTreeMap<u32, u16> {
        let present = self.view.present.iter();
        present
            .filter_map(|interface| Some((interface.ifindex, self.places.of(interface)?)))
            .collect()
    }
}

fn missing(name: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "interface {name} does not exist: see `ip link`, and set dataplane.interfaces in the \
         configuration"
    )
}

/// The interfaces in `EGRESS`: index and number.
fn entries(egress: &EgressTable) -> impl Iterator<Item = (u16, u32)> {
    (1..egress.len()).filter_map(|index| {
        let entry = egress.get(index)?;
        Some((u16::try_from(index).ok()?, entry.ifindex))
    })
}

impl Daemon {
    /// Has packets come in and leave by the interfaces that are there. One where that fails counts as
    /// missing, so that the others are followed all the same, and is tried again the next time.
    pub(super) fn follow_interfaces(&mut self, tables: &Tables) {
        let found = self.interfaces.tracker.view(tables);
        let mut used = InterfaceView {
            present: Vec::new(),
            missing: found.missing,
        };
        for interface in found.present {
            match self.use_interface(&interface) {
                Ok(()) => {
                    self.interfaces.refusing.remove(&interface.configured);
                    used.present.push(interface);
                }
                Err(error) => {
                    let name = interface.configured.clone();
                    if self.interfaces.refusing.insert(name) {
                        tracing::error!("{} cannot be used: {error:#}", interface.name);
                    }
                    used.missing.push(interface.configured);
                }
            }
        }
        if used != self.interfaces.view {
            self.interfaces.view = used;
            self.vips.set_interfaces(&self.interfaces.view.present);
        }
    }

    fn use_interface(&mut self, interface: &Interface) -> anyhow::Result<()> {
        self.let_leave_by(interface)?;
        let known = self.interfaces.view.indexes();
        if !known.contains(&interface.ifindex) {
            let dataplane = &mut self.engine.dataplane;
            dataplane.refresh_interface(&interface.configured, interface.ifindex)?;
            tracing::info!(interface = interface.name, "the interface is there");
        }
        Ok(())
    }

    fn let_leave_by(&mut self, interface: &Interface) -> anyhow::Result<()> {
        let index = self.interfaces.places.of(interface);
        let (Some(mac), Some(index)) = (interface.mac, index) else {
            return Ok(());
        };
        let mtu = u16::try_from(interface.mtu).unwrap_or(u16::MAX);
        let egress = &mut self.engine.dataplane.maps_mut().egress;
        egress
            .set(u32::from(index), interface.ifindex, mac, mtu)
            .with_context(|| format!("let packets leave by {}", interface.name))
    }

    /// The interfaces that there would be with these names.
    ///
    /// # Errors
    ///
    /// When a new one is missing.
    pub(super) fn interfaces_with(&self, names: &[String]) -> anyhow::Result<Interfaces> {
        self.interfaces.with(names, &self.tables.borrow())
    }

    /// Takes interfaces of these names in place of those in force, as far as that can be done before
    /// the program runs on them. Gives those that were in force.
    ///
    /// # Errors
    ///
    /// When a new one is missing; then nothing has changed.
    pub(super) fn take_interfaces(&mut self, names: &[String]) -> anyhow::Result<Interfaces> {
        let others = self.interfaces_with(names)?;
        let before = std::mem::replace(&mut self.interfaces, others);
        for interface in self.interfaces.view.present.clone() {
            if let Err(error) = self.let_leave_by(&interface) {
                self.take_interfaces_back(before);
                return Err(error);
            }
        }
        Ok(before)
    }

    /// Undoes [`Self::take_interfaces`].
    pub(super) fn take_interfaces_back(&mut self, before: Interfaces) {
        let tried = std::mem::replace(&mut self.interfaces, before);
        let places = &mut self.interfaces.places;
        let of_none = tried.places.by_name.into_values();
        places
            .given_up
            .extend(of_none.filter(|index| !places.by_name.values().any(|kept| kept == index)));
    }

    /// Takes interfaces out of `EGRESS` that no next hop names any more: those that were given up
    /// before next hops and routes were last brought in line.
    pub(super) fn forget_interfaces(&mut self) {
        if self.interfaces.places.given_up.is_empty() {
            return;
        }
        rcu_grace_period();
        let egress = &mut self.engine.dataplane.maps_mut().egress;
        self.interfaces.places.given_up.retain(|index| {
            let index = u32::from(*index);
            if egress.get(index).is_none() {
                return false;
            }
            match egress.clear(index) {
                Ok(()) => false,
                Err(error) => {
                    tracing::warn!(%error, "taking an interface out of the table that packets leave by");
                    true
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{
        Change,
        fixtures::{link, tables},
    };

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// Interfaces with places as after a start.
    fn start(listed: &[&str], tables: &Tables) -> Interfaces {
        let listed = names(listed);
        let mut interfaces = Interfaces::find(&listed, tables).expect("all are there");
        interfaces.places = interfaces
            .places
            .with(listed.iter().map(String::as_str))
            .expect("room");
        interfaces
    }

    #[test]
    fn an_interface_that_goes_missing_does_not_move_the_others() {
        let mut tables = tables([link(7, "front", true), link(9, "back", true)]);
        let mut interfaces = start(&["front", "back"], &tables);
        assert_eq!(interfaces.egress(), BTreeMap::from([(7, 2), (9, 1)]));
        tables.apply(Change::LinkGone(7));
        interfaces.view = interfaces.tracker.view(&tables);
        assert_eq!(interfaces.egress(), BTreeMap::from([(9, 1)]));
        // Nor does another order, nor the end of the other.
        for listed in [&["back", "front"][..], &["back"]] {
            let then = interfaces.with(&names(listed), &tables).expect("known");
            assert_eq!(then.egress(), BTreeMap::from([(9, 1)]), "{listed:?}");
        }
    }

    #[test]
    fn only_a_new_interface_has_to_be_there() {
        let mut tables = tables([link(2, "eth0", true), link(3, "eth1", true)]);
        let interfaces = start(&["eth0", "eth1"], &tables);
        tables.apply(Change::LinkGone(3));
        let then = interfaces.with(&names(&["eth1", "eth0"]), &tables);
        assert_eq!(then.expect("it was there").view.missing, ["eth1"]);
        let error = interfaces.with(&names(&["eth0", "eth9"]), &tables);
        let error = error.expect_err("it never was");
        assert!(error.to_string().contains("interface eth9"), "{error}");
    }

    #[test]
    fn what_is_refused_stays_refused_and_a_rename_is_followed() {
        let mut tables = tables([link(2, "eth0", true), link(3, "eth1", true)]);
        let mut interfaces = start(&["eth0", "eth1"], &tables);
        interfaces.view.present.pop();
        tables.apply(link(2, "lan", true));
        let then = interfaces.with(&names(&["eth1", "eth0"]), &tables);
        let then = then.expect("both are known").view;
        assert_eq!(then.missing, ["eth1"]);
        assert_eq!(then.present[0].name, "lan");
    }
}
