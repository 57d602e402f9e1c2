//! What the data path is asked to be.

use std::collections::BTreeSet;

use xlb_control::config::Mode;

use super::{error::DataplaneError, layout::Sizes};

/// An interface that the program runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The kernel's number of it.
    pub ifindex: u32,
}

/// What the data path is asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Interfaces that the program runs on.
    pub interfaces: Vec<Interface>,
    /// How it is attached to them.
    pub mode: Mode,
    /// Bits of `xlb_common::maps::feature` that the configuration uses.
    pub features: u32,
    /// Key of the flow hash.
    pub hash_key: [u64; 2],
    /// Sizes of the maps, at least.
    pub sizes: Sizes,
}

impl Spec {
    pub(super) fn check(&self) -> Result<(), DataplaneError> {
        self.sizes.check().map_err(DataplaneError::Spec)?;
        check_interfaces(&self.interfaces)
    }
}

/// Fails if an interface is not there, or is named twice.
pub(super) fn check_interfaces(interfaces: &[Interface]) -> Result<(), DataplaneError> {
    let mut seen = BTreeSet::new();
    for interface in interfaces {
        if interface.ifindex == 0 {
            return Err(DataplaneError::NoInterface {
                name: interface.name.clone(),
            });
        }
        if !seen.insert(interface.ifindex) {
            return Err(DataplaneError::Spec(format!(
                "interface {} is named twice",
                interface.name
            )));
        }
    }
    Ok(())
}
