//! The bytes of a frame, through one accessor.

use aya_ebpf::{helpers::bpf_xdp_adjust_head, programs::XdpContext};
use xlb_common::{reason::Reason, wire::Header};

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
    /// [`Reason::Truncated`] if it does not lie within the frame.
    #[inline(always)]
    pub fn at<T: Header>(&self, offset: usize) -> Result<&T, Reason> {
        let start = self.ctx.data() + offset;
        if start + size_of::<T>() > self.ctx.data_end() {
            return Err(Reason::Truncated);
        }
        // SAFETY: the header lies within the frame, and `Header` has no alignment and no invalid
        // bit patterns. The borrow of `self` keeps the frame from being written meanwhile.
        Ok(unsafe { &*(start as *const T) })
    }

    /// The header at `offset`, to be rewritten.
    ///
    /// # Errors
    ///
    /// [`Reason::Truncated`] if it does not lie within the frame.
    #[inline(always)]
    pub fn at_mut<T: Header>(&mut self, offset: usize) -> Result<&mut T, Reason> {
        let start = self.ctx.data() + offset;
        if start + size_of::<T>() > self.ctx.data_end() {
            return Err(Reason::Truncated);
        }
        // SAFETY: as in `at`; the exclusive borrow of `self` makes it the only reference.
        Ok(unsafe { &mut *(start as *mut T) })
    }

    /// Makes room for `bytes` before the frame.
    ///
    /// # Errors
    ///
    /// [`Reason::NoHeadroom`] if the driver left too little.
    #[inline(always)]
    pub fn grow_front(&mut self, bytes: usize) -> Result<(), Reason> {
        // SAFETY: the context is the one that the kernel called the program with.
        match unsafe { bpf_xdp_adjust_head(self.ctx.ctx, -(bytes as i32)) } {
            0 => Ok(()),
            _ => Err(Reason::NoHeadroom),
        }
    }
}
