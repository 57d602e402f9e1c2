//! The interfaces that xlb uses, told apart from their names.

use std::collections::BTreeSet;

use super::{model::Vlan, tables::Tables};

/// One of xlb's interfaces as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the configuration.
    pub configured: String,
    /// Its name now; another one after a rename.
    pub name: String,
    /// The kernel's number of it.
    pub ifindex: u32,
    /// Its hardware address, when it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// Up and running.
    pub up: bool,
    /// Largest payload of a frame, in bytes.
    pub mtu: u32,
    /// What it is on top of, if it is a VLAN device.
    pub vlan: Option<Vlan>,
}

/// xlb's interfaces as they are now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceView {
    /// Those that exist, in the configuration's order.
    pub present: Vec<Interface>,
    /// The names of those that do not.
    pub missing: Vec<String>,
}

impl InterfaceView {
    /// The numbers of those that exist.
    #[must_use]
    pub fn indexes(&self) -> BTreeSet<u32> {
        self.present
            .iter()
            .map(|interface| interface.ifindex)
            .collect()
    }
}

/// Follows the configured interfaces through renames and through going and coming again.
///
/// An interface is found by its name once, when the agent starts or a configuration is loaded, and
/// from then on by its number: a rename moves no traffic, as the XDP program stays on it too. When
/// it is deleted, the name counts again, and an interface that appears under it (a VLAN, bond or
/// container link made anew) takes its place at once, which is what keepalived's users know from
/// there. Unlike keepalived, which takes a rename for a loss, xlb goes on and shows both names. An
/// interface that takes a name while the one that had it is still there does not count until a
/// reload.
#[derive(Debug, Clone, Default)]
pub struct InterfaceTracker {
    followed: Vec<(String, Option<u32>)>,
}

impl InterfaceTracker {
    /// Follows the interfaces of these names.
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        Self {
            followed: names.iter().map(|name| (name.clone(), None)).collect(),
        }
    }

    /// Follows the interfaces of other names, and goes on with those that it follows already.
    #[must_use]
    pub fn following(&self, names: &[String]) -> Self {
        let known = |name: &String| {
            let mut followed = self.followed.iter();
            followed.find(|(of, _)| of == name)?.1
        };
        Self {
            followed: names
                .iter()
                .map(|name| (name.clone(), known(name)))
                .collect(),
        }
    }

    /// Whether it follows an interface of this name.
    #[must_use]
    pub fn follows(&self, name: &str) -> bool {
        self.followed.iter().any(|(of, _)| of == name)
    }

    /// Brings itself in line with the tables, and says what there is.
    pub fn view(&mut self, tables: &Tables) -> InterfaceView {
        let mut view = InterfaceView::default();
        for (_, ifindex) in &mut self.followed {
            *ifindex = ifindex.filter(|known| tables.link(*known).is_some());
        }
        let mut taken: BTreeSet<u32> = self
            .followed
            .iter()
            .filter_map(|(_, known)| *known)
            .collect();
        for (configured, ifindex) in &mut self.followed {
            let link = match *ifindex {
                Some(known) => tables.link(known),
                None => tables
                    .link_named(configured)
                    .filter(|link| taken.insert(link.ifindex)),
            };
            let Some(link) = link else {
                view.missing.push(configured.clone());
                continue;
            };
            *ifindex = Some(link.ifindex);
            view.present.push(Interface {
                configured: configured.clone(),
                name: link.name.clone(),
                ifindex: link.ifindex,
                mac: link.mac,
                up: link.up,
                mtu: link.mtu,
                vlan: link.vlan,
            });
        }
        view
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{link, tables};
    use super::super::model::Change;
    use super::*;

    fn seen(view: &InterfaceView) -> Vec<(&str, &str, u32)> {
        view.present
            .iter()
            .map(|i| (i.configured.as_str(), i.name.as_str(), i.ifindex))
            .collect()
    }

    #[test]
    fn a_rename_is_followed_and_the_name_counts_again_when_the_link_is_gone() {
        let mut tables = tables([link(2, "eth0", true)]);
        let mut tracker = InterfaceTracker::new(&["eth0".to_owned(), "eth1".to_owned()]);
        let view = tracker.view(&tables);
        assert_eq!(seen(&view), [("eth0", "eth0", 2)]);
        assert_eq!(view.missing, ["eth1"]);

        tables.apply(link(2, "lan", true));
        tables.apply(link(7, "eth0", true));
        assert_eq!(seen(&tracker.view(&tables)), [("eth0", "lan", 2)]);

        tables.apply(Change::LinkGone(2));
        let view = tracker.view(&tables);
        assert_eq!(seen(&view), [("eth0", "eth0", 7)]);
        assert_eq!(view.indexes(), BTreeSet::from([7]));
    }

    #[test]
    fn one_link_is_never_two_interfaces() {
        let mut tables = tables([link(2, "eth0", true)]);
        let mut tracker = InterfaceTracker::new(&["eth0".to_owned(), "eth1".to_owned()]);
        tracker.view(&tables);
        tables.apply(link(2, "eth1", true));
        let view = tracker.view(&tables);
        assert_eq!(seen(&view), [("eth0", "eth1", 2)]);
        assert_eq!(view.missing, ["eth1"]);
    }
}
