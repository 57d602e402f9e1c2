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

/// A frame that the program looks at and rewrites.
pub struct Frame<'a> {
    ctx: &'a XdpContext,
}

impl<'a> Frame<'a> {
    /// The frame of a context.
    #[inline(always)]
    pub const fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx }
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
