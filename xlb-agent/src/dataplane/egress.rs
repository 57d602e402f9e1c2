//! Interfaces that packets leave by: what the program reads, and what the kernel redirects to.

use std::{
    io,
    mem::offset_of,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use xlb_common::next_hop::Egress;

use super::{mapped::MappedArray, sys};

/// `EGRESS` and `EGRESS_DEVICES`, which have the same indices.
#[derive(Debug)]
pub struct EgressTable {
    interfaces: MappedArray<Egress>,
    devices: OwnedFd,
}

impl EgressTable {
    pub(super) fn new(interfaces: OwnedFd, devices: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            interfaces: MappedArray::new(interfaces)?,
            devices,
        })
    }

    /// Entries of the table; index 0 stands for no interface.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.interfaces.len()
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.interfaces.is_empty()
    }

    /// Interfaces in the table.
    #[must_use]
    pub fn used(&self) -> usize {
        self.interfaces.iter().filter(|e| e.ifindex != 0).count()
    }

    /// The interface at an index; `None` if there is none.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<Egress> {
        self.interfaces
            .read(index)
            .filter(|egress| egress.ifindex != 0)
    }

    /// Puts an interface at an index, or changes what is known of it. `tag`: of the VLAN device that it
    /// stands for, or 0.
    ///
    /// # Errors
    ///
    /// What the kernel says: the interface does not exist, the index lies past the end.
    pub fn set(
        &mut self,
        index: u32,
        ifindex: u32,
        mac: [u8; 6],
        mtu: u16,
        tag: u32,
    ) -> io::Result<()> {
        // `struct bpf_devmap_val`: the interface, and no program to run on its packets.
        let device: [u32; 2] = [ifindex, 0];
        sys::map_update(self.devices.as_fd(), &index, &[device], 0)?;
        let [a, b, c, d, e, f] = mac;
        let [low, high] = mtu.to_ne_bytes();
        let address = u64::from_ne_bytes([a, b, c, d, e, f, low, high]);
        let stored = self
            .interfaces
            .store_u64(index, offset_of!(Egress, mac), address)
            && self
                .interfaces
                .store_u32(index, offset_of!(Egress, tag), tag)
            && self
                .interfaces
                .store_u32(index, offset_of!(Egress, ifindex), ifindex);
        if !stored {
            return Err(io::Error::other(format!("egress {index} is past the end")));
        }
        Ok(())
    }

    /// Takes the interface at an index out. Nothing names the index any more.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn clear(&mut self, index: u32) -> io::Result<()> {
        if !self
            .interfaces
            .store_u32(index, offset_of!(Egress, ifindex), 0)
        {
            return Err(io::Error::other(format!("egress {index} is past the end")));
        }
        sys::map_delete(self.devices.as_fd(), &index).map(drop)
    }
}

impl AsFd for EgressTable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.interfaces.as_fd()
    }
}
