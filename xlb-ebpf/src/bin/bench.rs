//! Programs of the benchmark: what feeds the program under test with frames, and what it is compared
//! with. None of them is part of xlb's data path.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, xdp_action},
    helpers::bpf_xdp_adjust_head,
    macros::{map, xdp},
    maps::{Array, PerCpuArray, ProgramArray},
    programs::XdpContext,
};

/// Words of the headers of IPv4 frames: Ethernet, IPv4 and TCP, and what the last word has to spare.
const WORDS4: usize = 7;
/// Words of the headers of IPv6 frames.
const WORDS6: usize = 10;

/// Headers of all flows in the order in which their frames come, a power of two of them.
#[map]
static HEADERS4: Array<[u64; WORDS4]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// The same for IPv6.
#[map]
static HEADERS6: Array<[u64; WORDS6]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// The program under test, at index 0.
#[map]
static UNDER_TEST: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// Frames that came back to the generator.
#[map]
static RETURNED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Bytes of every frame, set before the programs are loaded.
#[unsafe(no_mangle)]
static FRAME_BYTES: u32 = 64;
/// Headers less one, set before the programs are loaded.
#[unsafe(no_mangle)]
static HEADERS_MASK: u32 = 0;
/// Which header comes next. One run at a time uses it.
#[unsafe(no_mangle)]
static mut NEXT: u32 = 0;

/// Makes the frame the next flow's, and hands it to the program under test.
#[xdp]
pub fn next4(ctx: XdpContext) -> u32 {
    hand_over(&ctx, write_next(&ctx, &HEADERS4))
}

/// The same for IPv6.
#[xdp]
pub fn next6(ctx: XdpContext) -> u32 {
    hand_over(&ctx, write_next(&ctx, &HEADERS6))
}

/// Makes the frame the next flow's, and sends it.
#[xdp]
pub fn send4(ctx: XdpContext) -> u32 {
    sent(write_next(&ctx, &HEADERS4))
}

/// The same for IPv6.
#[xdp]
pub fn send6(ctx: XdpContext) -> u32 {
    sent(write_next(&ctx, &HEADERS6))
}

/// Takes in what came back.
#[xdp]
pub fn take_in(_ctx: XdpContext) -> u32 {
    if let Some(count) = RETURNED.get_ptr_mut(0) {
        // SAFETY: the pointer is to this CPU's value, and XDP is not preempted by itself.
        unsafe { *count += 1 };
    }
    xdp_action::XDP_DROP
}

/// A program that does nothing but send the frame back.
#[xdp]
pub fn empty(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// A program that makes room for an outer header and writes none.
#[xdp]
pub fn adjust(ctx: XdpContext) -> u32 {
    match grow(&ctx, 20) {
        true => xdp_action::XDP_TX,
        false => xdp_action::XDP_ABORTED,
    }
}

/// A program that writes an Ethernet header and an outer IPv4 header that it did not have to find.
#[xdp]
pub fn fixed4(ctx: XdpContext) -> u32 {
    const OUTER: [u8; 34] = *b"\x02\x00\x0a\x50\x01\xfe\x02\x00\x0a\x50\x01\x01\x08\x00\
        \x45\x00\x00\x46\x00\x00\x40\x00\x40\x04\x23\x16\x0a\x50\x01\x01\x0a\x50\x01\xfe";
    write_outer(&ctx, 20, OUTER)
}

/// The same with an outer IPv6 header.
#[xdp]
pub fn fixed6(ctx: XdpContext) -> u32 {
    const OUTER: [u8; 54] = *b"\x02\x00\x0a\x50\x01\xfe\x02\x00\x0a\x50\x01\x01\x86\xdd\
        \x60\x00\x00\x00\x00\x46\x29\x40\
        \xfd\x80\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\
        \xfd\x80\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xfe";
    write_outer(&ctx, 40, OUTER)
}

/// Gives the frame its length again and writes the next headers into it.
#[inline(always)]
fn write_next<const WORDS: usize>(ctx: &XdpContext, headers: &Array<[u64; WORDS]>) -> bool {
    // SAFETY: these are set before the program is loaded; volatile, since the compiler sees others.
    let (frame_bytes, mask) = unsafe {
        (
            (&raw const FRAME_BYTES).read_volatile(),
            (&raw const HEADERS_MASK).read_volatile(),
        )
    };
    let length = (ctx.data_end() - ctx.data()) as u32;
    if length != frame_bytes {
        let surplus = length.wrapping_sub(frame_bytes) as i32;
        // SAFETY: the context is the one that the kernel called the program with.
        if unsafe { bpf_xdp_adjust_head(ctx.ctx, surplus) } != 0 {
            return false;
        }
    }
    // SAFETY: nobody else writes it meanwhile, and any number is right.
    let next = unsafe { (&raw const NEXT).read_volatile() };
    // SAFETY: as above.
    unsafe { (&raw mut NEXT).write_volatile(next.wrapping_add(1)) };
    let Some(header) = headers.get(next & mask) else {
        return false;
    };
    write(ctx, header)
}

/// Writes what is plain bytes at the front of the frame.
#[inline(always)]
fn write<T: Copy>(ctx: &XdpContext, header: &T) -> bool {
    let start = ctx.data();
    if start + size_of::<T>() > ctx.data_end() {
        return false;
    }
    // SAFETY: the bytes lie within the frame, whatever its alignment.
    unsafe { (start as *mut T).write_unaligned(*header) };
    true
}

#[inline(always)]
fn hand_over(ctx: &XdpContext, written: bool) -> u32 {
    if written {
        // SAFETY: nothing here waits to be dropped.
        unsafe { UNDER_TEST.tail_call(ctx, 0) };
    }
    // There was no such program, or no such frame.
    xdp_action::XDP_ABORTED
}

#[inline(always)]
fn sent(written: bool) -> u32 {
    match written {
        true => xdp_action::XDP_TX,
        false => xdp_action::XDP_ABORTED,
    }
}

#[inline(always)]
fn grow(ctx: &XdpContext, bytes: i32) -> bool {
    // SAFETY: the context is the one that the kernel called the program with.
    unsafe { bpf_xdp_adjust_head(ctx.ctx, -bytes) == 0 }
}

#[inline(always)]
fn write_outer<T: Copy>(ctx: &XdpContext, bytes: i32, header: T) -> u32 {
    match grow(ctx, bytes) && write(ctx, &header) {
        true => xdp_action::XDP_TX,
        false => xdp_action::XDP_ABORTED,
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: never reached: `cargo xtask build` rejects a program that could panic.
    unsafe { core::hint::unreachable_unchecked() }
}

/// The kernel offers some helpers to programs under a licence compatible with the GPL only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
