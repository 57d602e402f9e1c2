//! The few system calls of BPF that a run makes a million times, without anything around them.

use std::io;

const MAP_LOOKUP_ELEM: i64 = 1;
const MAP_UPDATE_ELEM: i64 = 2;
const PROG_TEST_RUN: i64 = 10;
const MAP_LOOKUP_BATCH: i64 = 24;

fn bpf<T>(command: i64, attributes: &mut T) -> io::Result<()> {
    // SAFETY: `attributes` is a prefix of `union bpf_attr` as the command defines it (the kernel's
    // include/uapi/linux/bpf.h), and the pointers in it are valid for as long as the caller's borrows.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[repr(C)]
struct Element {
    map: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Reads the value of a key, which has as many bytes as `value`.
pub(super) fn lookup(map: i32, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    bpf(
        MAP_LOOKUP_ELEM,
        &mut Element {
            map: map as u32,
            reserved: 0,
            key: key.as_ptr() as u64,
            value: value.as_mut_ptr() as u64,
            flags: 0,
        },
    )
}

/// Writes the value of a key.
pub(super) fn update(map: i32, key: &[u8], value: &[u8]) -> io::Result<()> {
    bpf(
        MAP_UPDATE_ELEM,
        &mut Element {
            map: map as u32,
            reserved: 0,
            key: key.as_ptr() as u64,
            value: value.as_ptr() as u64,
            flags: 0,
        },
    )
}

/// Reads the first entries of an array, as many as `keys` has room for.
pub(super) fn lookup_array(map: i32, keys: &mut [u32], values: &mut [u64]) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        count: u32,
        map: u32,
        element_flags: u64,
        flags: u64,
    }
    let mut next = 0_u64;
    let mut attributes = Attributes {
        in_batch: 0,
        out_batch: std::ptr::from_mut(&mut next) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: keys.len() as u32,
        map: map as u32,
        element_flags: 0,
        flags: 0,
    };
    match bpf(MAP_LOOKUP_BATCH, &mut attributes) {
        // There is nothing after what was read.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        other => other?,
    }
    if attributes.count as usize != keys.len() {
        return Err(io::Error::other(format!(
            "{} of {} entries were read",
            attributes.count,
            keys.len()
        )));
    }
    Ok(())
}

/// Runs an XDP program on a frame: what it answered, and how many bytes of `output` it left.
pub(super) fn test_run(program: i32, input: &[u8], output: &mut [u8]) -> io::Result<(u32, usize)> {
    #[repr(C)]
    struct Attributes {
        program: u32,
        answer: u32,
        input_bytes: u32,
        output_bytes: u32,
        input: u64,
        output: u64,
        repeat: u32,
        duration: u32,
        context: [u64; 3],
        flags: [u32; 4],
    }
    let mut attributes = Attributes {
        program: program as u32,
        answer: 0,
        input_bytes: input.len() as u32,
        output_bytes: output.len() as u32,
        input: input.as_ptr() as u64,
        output: output.as_mut_ptr() as u64,
        repeat: 1,
        duration: 0,
        context: [0; 3],
        flags: [0; 4],
    };
    bpf(PROG_TEST_RUN, &mut attributes)?;
    Ok((attributes.answer, attributes.output_bytes as usize))
}
