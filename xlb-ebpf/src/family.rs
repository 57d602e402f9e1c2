//! What differs between IPv4 and IPv6, so that the pipeline is written once.

mod extensions;
mod outer;
mod v4;
mod v6;
mod wide;

use aya_ebpf::bindings::bpf_fib_lookup;
pub use v4::V4;
pub use v6::{V6, difference};
use xlb_common::{
    endpoint::EndpointTarget,
    maps::{Backend, FlowKey, NextHop},
    reason::Reason,
};

use xlb_ebpf::tunnel::Tunnel;

use crate::{
    frame::{Frame, Layout},
    packet::{Headers, Packet, Ports},
};

/// An address family.
pub trait Family: Sized {
    /// An address, as it stands in memory.
    type Address: Copy;
    /// The other family.
    type Other: Family;
    /// 4 or 6.
    const NUMBER: u8;
    /// Bit of `xlb_common::maps::feature`.
    const FEATURE: u32;
    /// Protocol number of the family's ICMP.
    const ICMP: u8;
    /// Offset of what follows the IP header.
    const TRANSPORT_OFFSET: usize;
    /// Bytes of an outer header of the same family.
    const OUTER_BYTES: usize;
    /// Seconds that the fragments of a datagram are waited for.
    const FRAGMENTS_LIFETIME_S: u32;
    /// Bytes of a fragment's headers that no length of the whole packet would count.
    const FRAGMENT_BYTES_UNCOUNTED: usize;

    /// Parses a plain packet: its IP header and what follows that.
    fn parse(frame: &Frame<'_>) -> Result<Packet<Self>, Reason>;
    /// Looks through the headers of a packet whose IP header is at this offset.
    fn look_through(frame: &Frame<'_, impl Layout>, offset: usize) -> Result<Headers, Reason>;
    /// Whether the options of a packet's IP header are such as a router passes on.
    fn check_options(frame: &Frame<'_, impl Layout>, headers: &Headers) -> Result<(), Reason>;
    /// Source and destination of the packet whose IP header is at this offset.
    fn ends(
        frame: &Frame<'_, impl Layout>,
        offset: usize,
    ) -> Result<(Self::Address, Self::Address), Reason>;
    /// What a VIP's endpoint stands for.
    fn find_vip(address: Self::Address, port_be: u16, protocol: u8) -> Option<EndpointTarget>;
    /// What a backend's endpoint stands for.
    fn find_reply(address: Self::Address, port_be: u16, protocol: u8) -> Option<EndpointTarget>;
    /// The hash that picks the flow's slot.
    fn hash(key: [u64; 2], packet: &Packet<Self>, ports: Ports, protocol: u8) -> u32;
    /// The hash that picks the slot of all flows of a client.
    fn client_hash(key: [u64; 2], packet: &Packet<Self>) -> u32;
    /// The flow's key in `PENDING` and `FLOWS`.
    fn flow_key(packet: &Packet<Self>, ports: Ports, protocol: u8) -> FlowKey;
    /// An address out of a map's value.
    fn address(bytes: &[u8; 16]) -> Self::Address;
    /// An address in a flow's key.
    fn key(address: Self::Address) -> [u64; 2];
    /// An address out of a flow's key.
    fn of_key(words: [u64; 2]) -> Self::Address;
    /// Whether a number is that of what may stand between the IP header and what it carries.
    fn is_between(number: u8) -> bool;
    /// Whether two addresses are one.
    fn equal(a: Self::Address, b: Self::Address) -> bool;
    /// Whether two addresses have their first bits in common, 1 or more.
    fn share(a: Self::Address, b: Self::Address, bits: u8) -> bool;
    /// Bytes of the packet, its IP header among them.
    fn ip_bytes(frame: &Frame<'_, impl Layout>) -> Result<usize, Reason>;
    /// Takes one from the TTL or hop limit.
    fn hop(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason>;
    /// Sets the destination; gives the change of the transport's checksum.
    fn set_destination(
        frame: &mut Frame<'_, impl Layout>,
        new: Self::Address,
    ) -> Result<u64, Reason>;
    /// Sets the source; gives the change of the transport's checksum.
    fn set_source(frame: &mut Frame<'_, impl Layout>, new: Self::Address) -> Result<u64, Reason>;
    /// Puts the packet into an outer header to the backend, in a tunnel of this form. `entropy` goes
    /// where routers look for it.
    fn encapsulate<T: Tunnel>(
        frame: &mut Frame<'_, impl Layout>,
        backend: &Backend,
        mtu: u16,
        entropy: u32,
    ) -> Result<(), Reason>;
    /// The same with an outer header of the other family, which is the backend's.
    fn encapsulate_across<T: Tunnel>(
        frame: &mut Frame<'_, impl Layout>,
        backend: &Backend,
        mtu: u16,
        entropy: u32,
    ) -> Result<(), Reason>;
    /// Turns an echo request around.
    fn answer_echo(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason>;
    /// Next hop towards a client, from the agent's table.
    fn route(address: Self::Address) -> Option<NextHop>;
    /// Asks the kernel for the way from one address to another.
    fn fib_request(from: Self::Address, to: Self::Address, ifindex: u32) -> bpf_fib_lookup;
    /// The address as it stands in an event.
    fn event_address(address: Self::Address) -> [u8; 16];
}
