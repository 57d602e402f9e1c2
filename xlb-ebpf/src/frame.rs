//! The bytes of a frame, through one accessor.

use aya_ebpf::{
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use xlb_common::{
    decap,
    reason::Reason,
    wire::{ETHER_TYPE_IPV4_BE, ETHER_TYPE_IPV6_BE, EthernetHeader, Header, is_tag},
};

use crate::opaque::opaque;

/// What was asked for does not lie within the frame.
pub struct Truncated;

/// The driver left too little room before the frame.
pub struct NoHeadroom;

impl From<Truncated> for Reason {
    #[inline(always)]
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}

impl From<NoHeadroom> for Reason {
    #[inline(always)]
    fn from(_: NoHeadroom) -> Self {
        Self::NoHeadroom
    }
}

impl From<Truncated> for decap::Reason {
    #[inline(always)]
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}

/// What a frame carries.
pub enum Network {
    /// A packet of IPv4.
    Ipv4,
    /// A packet of IPv6.
    Ipv6,
    /// Something in VLAN tags.
    Tagged,
    /// Something else, or nothing.
    Other,
}

/// Where the headers of a frame are that follow its IP header.
pub trait Layout: Copy {
    /// Whether tags may have been taken off the frame.
    const MAY_HAVE_TAGS: bool;
    /// Offset of what an IP packet carries, which is `plain` where nothing comes between it and an
    /// IP header without options.
    fn transport(self, plain: usize) -> usize;
    /// Protocol number of that, which is `plain` where nothing comes between.
    fn carries(self, plain: u8) -> u8;
    /// Whether the packet may be a fragment.
    fn may_be_fragment() -> bool;
    /// The same within an outer header, whose end is at `transport` and which is followed by this.
    fn within_outer(self, transport: usize, number: u8) -> Self;
    /// A pointer into the frame, as the verifier wants it.
    fn pointer(address: usize) -> usize;
}

/// IP without options and extension headers: all offsets are constants.
#[derive(Clone, Copy)]
pub struct Plain;

impl Layout for Plain {
    const MAY_HAVE_TAGS: bool = false;

    #[inline(always)]
    fn transport(self, plain: usize) -> usize {
        plain
    }

    #[inline(always)]
    fn carries(self, plain: u8) -> u8 {
        plain
    }

    #[inline(always)]
    fn may_be_fragment() -> bool {
        false
    }

    #[inline(always)]
    fn within_outer(self, _transport: usize, _number: u8) -> Self {
        self
    }

    #[inline(always)]
    fn pointer(address: usize) -> usize {
        address
    }
}

/// Anywhere within the first [`HEADERS_BYTES_MAX`] bytes.
#[derive(Clone, Copy)]
pub struct Odd {
    transport: usize,
    number: u8,
}

impl Odd {
    /// What the IP packet carries is at this offset, and has this protocol number.
    #[inline(always)]
    pub fn new(transport: usize, number: u8) -> Self {
        Self {
            transport: bounded(transport),
            number,
        }
    }
}

impl Layout for Odd {
    const MAY_HAVE_TAGS: bool = true;

    #[inline(always)]
    fn transport(self, _plain: usize) -> usize {
        self.transport
    }

    #[inline(always)]
    fn carries(self, _plain: u8) -> u8 {
        self.number
    }

    #[inline(always)]
    fn may_be_fragment() -> bool {
        true
    }

    #[inline(always)]
    fn within_outer(self, transport: usize, number: u8) -> Self {
        Self { transport, number }
    }

    #[inline(always)]
    fn pointer(address: usize) -> usize {
        opaque(address)
    }
}

impl Frame<'_, Odd> {
    /// What the IP packet carries is a part of something.
    #[inline(always)]
    pub fn carries_part(&mut self, number: u8) {
        self.layout.number = number;
    }
}

/// Offset of the IP header.
pub const NETWORK_OFFSET: usize = size_of::<EthernetHeader>();

/// Bytes of a frame within which all headers begin; a power of two.
pub const HEADERS_BYTES_MAX: usize = 1024;

/// An offset within the headers, with a bound that the verifier sees.
#[inline(always)]
pub fn bounded(offset: usize) -> usize {
    opaque(offset) & (HEADERS_BYTES_MAX - 1)
}

/// A frame that the program looks at and rewrites. Where it begins and ends is read from the context
/// once, and again when that changed: so the compiler sees what is proven already, and does not have it
/// proven again.
pub struct Frame<'a, L = Plain> {
    ctx: &'a XdpContext,
    start: usize,
    end: usize,
    layout: L,
}

impl<'a> Frame<'a> {
    /// The frame of a context, whose headers are where they mostly are.
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        Self::laid_out(ctx, Plain)
    }
}

impl<'a, L: Layout> Frame<'a, L> {
    /// The frame of a context whose headers are there.
    #[inline(always)]
    pub fn laid_out(ctx: &'a XdpContext, layout: L) -> Self {
        Self {
            ctx,
            start: ctx.data(),
            end: ctx.data_end(),
            layout,
        }
    }

    /// A helper moved the frame's start or end, and to the verifier what was known of it is void.
    #[inline(always)]
    fn has_moved(&mut self) {
        self.start = self.ctx.data();
        self.end = self.ctx.data_end();
    }

    /// Offset of what the IP packet carries: see [`Layout::transport`].
    #[inline(always)]
    pub fn transport(&self, plain: usize) -> usize {
        self.layout.transport(plain)
    }

    /// The context, for helpers that want it.
    #[inline(always)]
    pub const fn ctx(&self) -> &'a XdpContext {
        self.ctx
    }

    /// Protocol number of what the IP packet carries: see [`Layout::carries`].
    #[inline(always)]
    pub fn carries(&self, plain: u8) -> u8 {
        self.layout.carries(plain)
    }

    /// Whether the packet may be a fragment.
    #[inline(always)]
    pub fn may_be_fragment(&self) -> bool {
        L::may_be_fragment()
    }

    /// An outer header was put around the packet, which ends at `transport` and is followed by this.
    #[inline(always)]
    pub fn is_within_outer(&mut self, transport: usize, number: u8) {
        self.layout = self.layout.within_outer(transport, number);
    }

    /// Bytes of the frame.
    #[inline(always)]
    pub fn length(&self) -> usize {
        self.end - self.start
    }

    /// What the frame carries.
    #[inline(always)]
    pub fn network(&self) -> Network {
        match self.at::<EthernetHeader>(0) {
            Ok(ethernet) if ethernet.ether_type_be == ETHER_TYPE_IPV4_BE => Network::Ipv4,
            Ok(ethernet) if ethernet.ether_type_be == ETHER_TYPE_IPV6_BE => Network::Ipv6,
            Ok(ethernet) if is_tag(ethernet.ether_type_be) => Network::Tagged,
            _ => Network::Other,
        }
    }

    /// The kernel's number of the interface that it came in on.
    #[inline(always)]
    pub fn ingress_ifindex(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }

    /// The header at `offset`.
    ///
    /// # Errors
    ///
    /// It does not lie within the frame.
    #[inline(always)]
    pub fn at<T: Header>(&self, offset: usize) -> Result<&T, Truncated> {
        let start = L::pointer(self.start + offset);
        if start + size_of::<T>() > self.end {
            return Err(Truncated);
        }
        // SAFETY: the header lies within the frame, and `Header` has no alignment and no invalid
        // bit patterns. The borrow of `self` keeps the frame from being written meanwhile.
        Ok(unsafe { &*(start as *const T) })
    }

    /// The header at `offset`, to be rewritten.
    ///
    /// # Errors
    ///
    /// It does not lie within the frame.
    #[inline(always)]
    pub fn at_mut<T: Header>(&mut self, offset: usize) -> Result<&mut T, Truncated> {
        let start = L::pointer(self.start + offset);
        if start + size_of::<T>() > self.end {
            return Err(Truncated);
        }
        // SAFETY: as in `at`; the exclusive borrow of `self` makes it the only reference.
        Ok(unsafe { &mut *(start as *mut T) })
    }

    /// Makes room for `bytes` before the frame.
    ///
    /// # Errors
    ///
    /// The driver left too little.
    #[inline(always)]
    pub fn grow_front(&mut self, bytes: usize) -> Result<(), NoHeadroom> {
        // SAFETY: the context is the one that the kernel called the program with.
        let answer = unsafe { bpf_xdp_adjust_head(self.ctx.ctx, -(bytes as i32)) };
        self.has_moved();
        match answer {
            0 => Ok(()),
            _ => Err(NoHeadroom),
        }
    }

    /// Cuts `bytes` off the front of the frame.
    ///
    /// # Errors
    ///
    /// The frame has no more than these and an Ethernet header.
    #[inline(always)]
    pub fn shrink_front(&mut self, bytes: usize) -> Result<(), Truncated> {
        // SAFETY: the context is the one that the kernel called the program with.
        let answer = unsafe { bpf_xdp_adjust_head(self.ctx.ctx, bytes as i32) };
        self.has_moved();
        match answer {
            0 => Ok(()),
            _ => Err(Truncated),
        }
    }

    /// Cuts `bytes` off the end of the frame.
    ///
    /// # Errors
    ///
    /// The frame has no more than these and an Ethernet header.
    #[inline(always)]
    pub fn shrink_back(&mut self, bytes: usize) -> Result<(), Truncated> {
        // SAFETY: the context is the one that the kernel called the program with.
        let answer = unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, -(bytes as i32)) };
        self.has_moved();
        match answer {
            0 => Ok(()),
            _ => Err(Truncated),
        }
    }
}
