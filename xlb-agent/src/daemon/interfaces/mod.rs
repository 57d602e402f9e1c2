//! xlb's interfaces: which there are, and where packets that leave by them find them in `EGRESS`.

mod places;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use xlb_common::maps::vlan_tag;
use xlb_control::config;

use self::places::Places;
use super::Daemon;
use crate::{
    dataplane::{EgressTable, rcu_grace_period},
    netlink::{Interface, InterfaceTracker, InterfaceView, Tables},
};

/// The names that a configuration has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Names<'a> {
    /// Interfaces that packets are taken from.
    interfaces: &'a [String],
    /// VLAN devices on top of them.
    vlans: &'a [String],
}

impl<'a> From<&'a config::Dataplane> for Names<'a> {
    fn from(of: &'a config::Dataplane) -> Self {
        Self {
            interfaces: &of.interfaces,
            vlans: &of.vlans,
        }
    }
}

impl<'a> Names<'a> {
    fn all(self) -> impl Iterator<Item = &'a str> {
        let all = self.interfaces.iter().chain(self.vlans);
        all.map(String::as_str)
    }
}

/// xlb's interfaces.
#[derive(Clone, Debug)]
pub(super) struct Interfaces {
    tracker: InterfaceTracker,
    /// The VLAN devices.
    vlans: InterfaceTracker,
    /// Those that are there, on top of what they may be.
    vlan_view: InterfaceView,
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
    pub(super) fn find(names: Names<'_>, tables: &Tables) -> anyhow::Result<Self> {
        let mut tracker = InterfaceTracker::new(names.interfaces);
        let mut vlans = InterfaceTracker::new(names.vlans);
        let (view, vlan_view) = (tracker.view(tables), vlans.view(tables));
        check_vlans(&vlan_view, &view, |_| true)?;
        let found = Self {
            tracker,
            vlans,
            vlan_view,
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
        let index_of = |(interface, of): (&Interface, (u32, u32))| {
            let index = entries(egress).find(|(_, there)| *there == of)?.0;
            Some((interface.configured.clone(), index))
        };
        let own = self.view.present.iter().map(|it| (it, (it.ifindex, 0)));
        let devices = self.vlan_view.present.iter();
        let devices = devices.filter_map(|it| Some((it, leaves_by(it)?)));
        let by_name: BTreeMap<String, u16> = own.chain(devices).filter_map(index_of).collect();
        let all = self.view.present.iter().chain(&self.vlan_view.present);
        let mut given_up: BTreeSet<u16> = entries(egress).map(|(index, _)| index).collect();
        given_up.retain(|index| !by_name.values().any(|kept| kept == index));
        let places = Places { by_name, given_up };
        self.places = places.with(all.map(|interface| interface.configured.as_str()))?;
        Ok(())
    }

    /// What there would be with these names: those that stay keep what is known of them, and those
    /// that are new have to be there.
    ///
    /// # Errors
    ///
    /// Names the first that is missing.
    pub(super) fn with(&self, names: Names<'_>, tables: &Tables) -> anyhow::Result<Self> {
        let mut tracker = self.tracker.following(names.interfaces);
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
        let mut vlans = self.vlans.following(names.vlans);
        let vlan_view = vlans.view(tables);
        check_vlans(&vlan_view, &view, |name| !self.vlans.follows(name))?;
        Ok(Self {
            tracker,
            vlans,
            vlan_view,
            view,
            places: self.places.with(names.all())?,
            refusing: self.refusing.clone(),
        })
    }

    /// The index in `EGRESS` of each interface that can be used.
    pub(super) fn egress(&self) -> BTreeMap<u32, u16> {
        let present = self.view.present.iter().chain(self.devices());
        present
            .filter_map(|interface| Some((interface.ifindex, self.places.of(interface)?)))
            .collect()
    }

    /// The interfaces that packets may leave by.
    pub(super) fn ways_out(&self) -> BTreeSet<u32> {
        let devices = self.devices().map(|device| device.ifindex);
        self.view.indexes().into_iter().chain(devices).collect()
    }

    /// The VLAN devices that can be used.
    fn devices(&self) -> impl Iterator<Item = &Interface> {
        let devices = self.vlan_view.present.iter();
        devices.filter(|device| is_on_top_of(device, &self.view))
    }
}

/// Whether a VLAN device is on top of one of these interfaces.
fn is_on_top_of(device: &Interface, view: &InterfaceView) -> bool {
    let below = device.vlan.map(|vlan| vlan.parent);
    let mut interfaces = view.present.iter();
    interfaces.any(|interface| Some(interface.ifindex) == below)
}

/// Checks that the VLAN devices that `is_new` are there and can be used.
fn check_vlans(
    vlans: &InterfaceView,
    interfaces: &InterfaceView,
    is_new: impl Fn(&str) -> bool,
) -> anyhow::Result<()> {
    if let Some(name) = vlans.missing.iter().find(|name| is_new(name)) {
        anyhow::bail!(
            "VLAN device {name} does not exist: make it by `ip link add link ETH name {name} type \
             vlan id ID`, or take it out of dataplane.vlans"
        );
    }
    for device in vlans.present.iter().filter(|it| is_new(&it.configured)) {
        if !is_on_top_of(device, interfaces) {
            anyhow::bail!(
                "{} in dataplane.vlans is not a VLAN device on top of an interface in \
                 dataplane.interfaces: see `ip -d link show {}`",
                device.configured,
                device.name
            );
        }
    }
    Ok(())
}

/// The interface that frames leave by instead of a VLAN device, and the tag that they leave with.
fn leaves_by(device: &Interface) -> Option<(u32, u32)> {
    let vlan = device.vlan?;
    Some((vlan.parent, vlan_tag(vlan.ether_type, vlan.id)))
}

fn missing(name: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "interface {name} does not exist: see `ip link`, and set dataplane.interfaces in the \
         configuration"
    )
}

/// The interfaces in `EGRESS`: index, and as [`leaves_by`].
fn entries(egress: &EgressTable) -> impl Iterator<Item = (u16, (u32, u32))> {
    (1..egress.len()).filter_map(|index| {
        let entry = egress.get(index)?;
        Some((u16::try_from(index).ok()?, (entry.ifindex, entry.tag)))
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
        self.interfaces.vlan_view = self.interfaces.vlans.view(tables);
        if let Err(error) = self.let_leave_by_devices() {
            tracing::error!("{error:#}");
        }
    }

    /// Has packets leave by the VLAN devices.
    fn let_leave_by_devices(&mut self) -> anyhow::Result<()> {
        let devices: Vec<Interface> = self.interfaces.devices().cloned().collect();
        for device in devices {
            if let Some(by) = leaves_by(&device) {
                self.let_leave_by(&device, by)?;
            }
        }
        Ok(())
    }

    fn use_interface(&mut self, interface: &Interface) -> anyhow::Result<()> {
        self.let_leave_by(interface, (interface.ifindex, 0))?;
        let known = self.interfaces.view.indexes();
        if !known.contains(&interface.ifindex) {
            let dataplane = &mut self.engine.dataplane;
            dataplane.refresh_interface(&interface.configured, interface.ifindex)?;
            tracing::info!(interface = interface.name, "the interface is there");
        }
        Ok(())
    }

    /// Has packets leave by an interface, which is this one, with this tag.
    fn let_leave_by(
        &mut self,
        interface: &Interface,
        (ifindex, tag): (u32, u32),
    ) -> anyhow::Result<()> {
        let index = self.interfaces.places.of(interface);
        let (Some(mac), Some(index)) = (interface.mac, index) else {
            return Ok(());
        };
        let mtu = u16::try_from(interface.mtu).unwrap_or(u16::MAX);
        let egress = &mut self.engine.dataplane.maps_mut().egress;
        egress
            .set(u32::from(index), ifindex, mac, mtu, tag)
            .with_context(|| format!("let packets leave by {}", interface.name))
    }

    /// The interfaces that there would be with these names.
    ///
    /// # Errors
    ///
    /// When a new one is missing.
    pub(super) fn interfaces_with(&self, names: Names<'_>) -> anyhow::Result<Interfaces> {
        self.interfaces.with(names, &self.tables.borrow())
    }

    /// Takes interfaces of these names in place of those in force, as far as that can be done before
    /// the program runs on them. Gives those that were in force.
    ///
    /// # Errors
    ///
    /// When a new one is missing; then nothing has changed.
    pub(super) fn take_interfaces(&mut self, names: Names<'_>) -> anyhow::Result<Interfaces> {
        let others = self.interfaces_with(names)?;
        let before = std::mem::replace(&mut self.interfaces, others);
        let own = self.interfaces.view.present.clone();
        let outcome = own
            .iter()
            .try_for_each(|interface| self.let_leave_by(interface, (interface.ifindex, 0)))
            .and_then(|()| self.let_leave_by_devices());
        match outcome {
            Ok(()) => Ok(before),
            Err(error) => {
                self.take_interfaces_back(before);
                Err(error)
            }
        }
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
        fixtures::{link, tables, vlan},
    };

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// The interfaces of these names, and no VLAN devices.
    fn plain(interfaces: &[String]) -> Names<'_> {
        Names {
            interfaces,
            vlans: &[],
        }
    }

    /// Interfaces with places as after a start.
    fn start(listed: &[&str], tables: &Tables) -> Interfaces {
        let listed = names(listed);
        let mut interfaces = Interfaces::find(plain(&listed), tables).expect("all are there");
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
            let then = interfaces
                .with(plain(&names(listed)), &tables)
                .expect("known");
            assert_eq!(then.egress(), BTreeMap::from([(9, 1)]), "{listed:?}");
        }
    }

    #[test]
    fn only_a_new_interface_has_to_be_there() {
        let mut tables = tables([link(2, "eth0", true), link(3, "eth1", true)]);
        let interfaces = start(&["eth0", "eth1"], &tables);
        tables.apply(Change::LinkGone(3));
        let then = interfaces.with(plain(&names(&["eth1", "eth0"])), &tables);
        assert_eq!(then.expect("it was there").view.missing, ["eth1"]);
        let error = interfaces.with(plain(&names(&["eth0", "eth9"])), &tables);
        let error = error.expect_err("it never was");
        assert!(error.to_string().contains("interface eth9"), "{error}");
    }

    #[test]
    fn what_is_refused_stays_refused_and_a_rename_is_followed() {
        let mut tables = tables([link(2, "eth0", true), link(3, "eth1", true)]);
        let mut interfaces = start(&["eth0", "eth1"], &tables);
        interfaces.view.present.pop();
        tables.apply(link(2, "lan", true));
        let then = interfaces.with(plain(&names(&["eth1", "eth0"])), &tables);
        let then = then.expect("both are known").view;
        assert_eq!(then.missing, ["eth1"]);
        assert_eq!(then.present[0].name, "lan");
    }

    #[test]
    fn a_vlan_device_leaves_by_the_interface_that_it_is_on_top_of() {
        let all = [
            link(2, "eth0", true),
            link(3, "eth1", true),
            vlan(5, "eth0.20", 2, 20),
            vlan(6, "eth1.20", 3, 20),
        ];
        let mut tables = tables(all);
        let (own, devices) = (names(&["eth0"]), names(&["eth0.20"]));
        let listed = Names {
            interfaces: &own,
            vlans: &devices,
        };
        let mut interfaces = Interfaces::find(listed, &tables).expect("both are there");
        interfaces.places = interfaces.places.with(listed.all()).expect("room");
        assert_eq!(interfaces.egress(), BTreeMap::from([(2, 1), (5, 2)]));
        assert_eq!(interfaces.ways_out(), BTreeSet::from([2, 5]));
        let device = interfaces.devices().next().expect("one");
        assert_eq!(leaves_by(device), Some((2, vlan_tag(0x8100, 20))));
        // Others can't be used: of another interface, of none, none at all.
        for (name, words) in [
            (
                "eth1.20",
                "eth1.20 in dataplane.vlans is not a VLAN device on top of",
            ),
            (
                "eth1",
                "eth1 in dataplane.vlans is not a VLAN device on top of",
            ),
            ("eth0.9", "VLAN device eth0.9 does not exist"),
        ] {
            let others = names(&[name]);
            let listed = Names {
                interfaces: &own,
                vlans: &others,
            };
            let error = interfaces.with(listed, &tables).expect_err("refused");
            assert!(error.to_string().starts_with(words), "{error}");
        }
        // One that goes is missed, and does not move the interface.
        tables.apply(Change::LinkGone(5));
        let then = interfaces.with(listed, &tables).expect("it was there");
        assert_eq!(then.egress(), BTreeMap::from([(2, 1)]));
    }
}
