//! The bytes of a frame, through one accessor.

use aya_ebpf::{
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use xlb_common::{decap, reason::Reason, wire::Header};

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

/// Where the headers of a frame are. Ahead of the pipeline, an Ethernet header is made to lie right
/// before the IP header, whose offset is thus always the same.
pub trait Layout: Copy {
    /// Offset of what an IP packet carries, which is `plain` where nothing comes between it and an
    /// IP header without options.
    fn transport(self, plain: usize) -> usize;
}

/// IP without options and extension headers: all offsets are constants.
#[derive(Clone, Copy)]
pub struct Plain;

impl Layout for Plain {
    #[inline(always)]
    fn transport(self, plain: usize) -> usize {
        plain
    }
}

/// A frame that the program looks at and rewrites.
pub struct Frame<'a, L = Plain> {
    ctx: &'a XdpContext,
    layout: L,
}

impl<'a> Frame<'a> {
    /// The frame of a context, whose headers are where they mostly are.
    #[inline(always)]
    pub const fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx, layout: Plain }
    }
}

impl<'a, L: Layout> Frame<'a, L> {
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

    /// Bytes of the frame.
    #[inline(always)]
    pub fn length(&self) -> usize {
        self.ctx.data_end() - self.ctx.data()
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
        let start = self.ctx.data() + offset;
        if start + size_of::<T>() > self.ctx.data_end() {
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
        let start = self.ctx.data() + offset;
        if start + size_of::<T>() > self.ctx.data_end() {
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
        match unsafe { bpf_xdp_adjust_head(self.ctx.ctx, -(bytes as i32)) } {
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
        match unsafe { bpf_xdp_adjust_head(self.ctx.ctx, bytes as i32) } {
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
        match unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, -(bytes as i32)) } {
            0 => Ok(()),
            _ => Err(Truncated),
        }
    }
}
