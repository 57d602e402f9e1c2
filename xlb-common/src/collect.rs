//! What the agent asks of the program [`BURY`] when it collects records: compare-and-exchanges of
//! their words, which no system call offers.

use crate::maps::FlowKey;

/// Name of the program. Its input is as many [`Exchange`]s as it is to carry out, instead of a
/// packet.
pub const BURY: &str = "bury";

/// Exchanges in one run of the program at most: together with the kernel's own room they fit a page.
pub const EXCHANGES_MAX: usize = 48;

/// Sets the word of a record, if it is still what it was.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Key of the record.
    pub key: FlowKey,
    /// One of [`table`].
    pub table: u64,
    /// What the word was.
    pub old: u64,
    /// What it becomes.
    pub new: u64,
}

const _: () = assert!(size_of::<Exchange>() == 64);

/// Tables of records.
pub mod table {
    /// `PENDING`.
    pub const PENDING: u64 = 0;
    /// `FLOWS`.
    pub const FLOWS: u64 = 1;
}
