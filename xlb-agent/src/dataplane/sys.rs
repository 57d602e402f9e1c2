//! The `bpf` system call, as far as aya does not offer it without `CAP_SYS_ADMIN` or without a
//! fallback that we do not want.
//!
//! The structures are the parts of `union bpf_attr` in the kernel's `include/uapi/linux/bpf.h`.

use std::{
    ffi::CString,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use super::plain::Plain;

const MAP_CREATE: i64 = 0;
const MAP_LOOKUP_ELEM: i64 = 1;
const MAP_UPDATE_ELEM: i64 = 2;
const MAP_DELETE_ELEM: i64 = 3;
const OBJ_PIN: i64 = 6;
const OBJ_GET: i64 = 7;
const PROG_TEST_RUN: i64 = 10;
const OBJ_GET_INFO_BY_FD: i64 = 15;
const MAP_LOOKUP_BATCH: i64 = 24;
const LINK_CREATE: i64 = 28;
const LINK_UPDATE: i64 = 29;
const LINK_DETACH: i64 = 34;

/// `enum bpf_attach_type`, `BPF_XDP`.
const ATTACH_XDP: u32 = 37;

/// Attached in the network stack (`XDP_FLAGS_SKB_MODE`).
pub(super) const XDP_GENERIC: u32 = 1 << 1;
/// Attached in the driver (`XDP_FLAGS_DRV_MODE`).
pub(super) const XDP_NATIVE: u32 = 1 << 2;

/// The update fails if the key is there (`BPF_NOEXIST`).
pub(super) const NO_EXIST: u64 = 1;

fn bpf<T>(command: i64, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: `attributes` is a prefix of `union bpf_attr` as the command defines it, of the length
    // that is passed; the pointers in it are valid for as long as the caller's borrows.
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
    Ok(i32::try_from(result).unwrap_or(i32::MAX))
}

fn bpf_fd<T>(command: i64, attributes: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the command returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn path_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Creates a map.
pub(super) fn map_create(
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
    name: &str,
) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        kind: u32,
        key_bytes: u32,
        value_bytes: u32,
        entries: u32,
        flags: u32,
        inner_map_fd: u32,
        numa_node: u32,
        name: [u8; 16],
    }
    let mut attributes = Attributes {
        kind,
        key_bytes,
        value_bytes,
        entries,
        flags,
        inner_map_fd: 0,
        numa_node: 0,
        name: [0; 16],
    };
    // The last byte stays zero.
    for (to, from) in attributes.name.iter_mut().zip(name.bytes()).take(15) {
        *to = from;
    }
    bpf_fd(MAP_CREATE, &mut attributes)
}

#[repr(C)]
struct Element {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Element {
    fn new<K>(map: BorrowedFd<'_>, key: &K, value: u64, flags: u64) -> Self {
        Self {
            map_fd: raw(map),
            reserved: 0,
            key: std::ptr::from_ref(key) as u64,
            value,
            flags,
        }
    }
}

/// Reads a value of any length, such as those of all CPUs, into `value`. `false`: no such key.
pub(super) fn map_lookup_into<K: Plain, V: Plain>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &mut [V],
) -> io::Result<bool> {
    let mut attributes = Element::new(map, key, value.as_mut_ptr() as u64, 0);
    found(bpf(MAP_LOOKUP_ELEM, &mut attributes))
}

/// Reads a value. `None`: no such key.
pub(super) fn map_lookup<K: Plain, V: Plain>(
    map: BorrowedFd<'_>,
    key: &K,
) -> io::Result<Option<V>> {
    let mut value = MaybeUninit::<V>::zeroed();
    let mut attributes = Element::new(map, key, value.as_mut_ptr() as u64, 0);
    let found = found(bpf(MAP_LOOKUP_ELEM, &mut attributes))?;
    // SAFETY: the kernel filled the value, whose size is the map's, and any bit pattern is one.
    Ok(found.then(|| unsafe { value.assume_init() }))
}

/// Writes a value.
pub(super) fn map_update<K: Plain, V: Plain>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &[V],
    flags: u64,
) -> io::Result<()> {
    let mut attributes = Element::new(map, key, value.as_ptr() as u64, flags);
    bpf(MAP_UPDATE_ELEM, &mut attributes).map(drop)
}

/// Removes a key. `false`: it was not there.
pub(super) fn map_delete<K: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    let mut attributes = Element::new(map, key, 0, 0);
    found(bpf(MAP_DELETE_ELEM, &mut attributes))
}

fn found(result: io::Result<i32>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads entries from `token` on into `keys` and `values`, which are as many. Returns how many came,
/// and whether they were the last. `ENOSPC`: a bucket holds more than fit.
pub(super) fn map_lookup_batch<K: Plain, V: Plain>(
    map: BorrowedFd<'_>,
    token: &mut Option<[u64; BATCH_TOKEN_WORDS]>,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<(usize, bool)> {
    #[repr(C)]
    struct Attributes {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        count: u32,
        map_fd: u32,
        element_flags: u64,
        flags: u64,
    }
    let mut next = [0_u64; BATCH_TOKEN_WORDS];
    let mut attributes = Attributes {
        in_batch: token.as_ref().map_or(0, |token| token.as_ptr() as u64),
        out_batch: next.as_mut_ptr() as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: u32::try_from(keys.len().min(values.len())).unwrap_or(u32::MAX),
        map_fd: raw(map),
        element_flags: 0,
        flags: 0,
    };
    let last = !found(bpf(MAP_LOOKUP_BATCH, &mut attributes))?;
    *token = Some(next);
    Ok((attributes.count as usize, last))
}

/// Words that hold the kernel's place in a batch: the longest key, `FlowKey`'s 40 bytes.
pub(super) const BATCH_TOKEN_WORDS: usize = 5;

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Pins an object.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = path_string(path)?;
    let mut attributes = Object {
        path: path.as_ptr() as u64,
        fd: raw(object),
        flags: 0,
    };
    bpf(OBJ_PIN, &mut attributes).map(drop)
}

/// Opens a pinned object.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = path_string(path)?;
    let mut attributes = Object {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    bpf_fd(OBJ_GET, &mut attributes)
}

fn info<T: Plain>(object: BorrowedFd<'_>) -> io::Result<T> {
    #[repr(C)]
    struct Attributes {
        fd: u32,
        info_bytes: u32,
        info: u64,
    }
    let mut info = MaybeUninit::<T>::zeroed();
    let mut attributes = Attributes {
        fd: raw(object),
        info_bytes: size_of::<T>() as u32,
        info: info.as_mut_ptr() as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attributes)?;
    // SAFETY: it was zeroed, the kernel wrote at most its size, and any bit pattern is one.
    Ok(unsafe { info.assume_init() })
}

/// The beginning of `struct bpf_map_info`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct MapInfo {
    /// `enum bpf_map_type`.
    pub(super) kind: u32,
    /// The kernel's number of the map.
    pub(super) id: u32,
    /// Bytes of a key.
    pub(super) key_bytes: u32,
    /// Bytes of a value.
    pub(super) value_bytes: u32,
    /// Entries at most; bytes in a ring buffer.
    pub(super) entries: u32,
    /// `BPF_F_*`.
    pub(super) flags: u32,
}

/// What the kernel knows of a map.
pub(super) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info(map)
}

/// The beginning of `struct bpf_prog_info`, up to `verified_insns`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct ProgramInfo {
    kind: u32,
    /// The kernel's number of the program.
    pub(super) id: u32,
    tag: [u8; 8],
    /// Bytes of machine code.
    pub(super) jited_bytes: u32,
    /// Bytes of bytecode after verification.
    pub(super) translated_bytes: u32,
    pointers: [u64; 2],
    load_time_ns: u64,
    created_by_uid: u32,
    map_count: u32,
    map_ids: u64,
    name: [u8; 16],
    ifindex: u32,
    bit_field: u32,
    netns: [u64; 2],
    ksyms: [u32; 2],
    ksym_pointers: [u64; 2],
    btf: [u32; 2],
    func_info: u64,
    func_info_count: u32,
    line_info_count: u32,
    line_info: [u64; 2],
    jited_line_info_count: u32,
    line_info_bytes: u32,
    jited_line_info_bytes: u32,
    tag_count: u32,
    tags: u64,
    run_time_ns: u64,
    run_count: u64,
    recursion_misses: u64,
    /// Instructions that the verifier went through, since Linux 5.16.
    pub(super) verified_instructions: u32,
    attach_btf: [u32; 3],
}

const _: () = assert!(std::mem::offset_of!(ProgramInfo, verified_instructions) == 216);

// SAFETY: these are integers only, and without padding.
unsafe impl Plain for MapInfo {}
// SAFETY: as above.
unsafe impl Plain for ProgramInfo {}
// SAFETY: as above.
unsafe impl Plain for LinkInfo {}

/// What the kernel knows of a program.
pub(super) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    info(program)
}

/// The beginning of `struct bpf_link_info` of an XDP link.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct LinkInfo {
    kind: u32,
    /// The kernel's number of the link.
    pub(super) id: u32,
    /// The kernel's number of the program that it runs.
    pub(super) program_id: u32,
    reserved: u32,
    /// The kernel's number of the interface; 0: the interface is gone.
    pub(super) ifindex: u32,
    reserved_end: u32,
}

/// What the kernel knows of a link.
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    info(link)
}

/// Attaches a program to an interface, in the one mode of `flags`.
pub(super) fn link_create(
    program: BorrowedFd<'_>,
    ifindex: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attributes = [raw(program), ifindex, ATTACH_XDP, flags];
    bpf_fd(LINK_CREATE, &mut attributes)
}

/// Puts another program into a link; no packet is lost.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = [raw(link), raw(program), 0, 0];
    bpf(LINK_UPDATE, &mut attributes).map(drop)
}

/// Takes the program off the interface, whoever else holds the link.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = [raw(link)];
    bpf(LINK_DETACH, &mut attributes).map(drop)
}

/// Runs a program once, with `input` in place of a packet.
pub(super) fn test_run<T: Plain>(program: BorrowedFd<'_>, input: &[T]) -> io::Result<()> {
    test_run_with(program, input, &mut []).map(drop)
}

/// The same; what the program made of the input goes to `output`. Returns what the program returned, and
/// how many bytes there are of the output.
pub(super) fn test_run_with<T: Plain>(
    program: BorrowedFd<'_>,
    input: &[T],
    output: &mut [u8],
) -> io::Result<(u32, usize)> {
    #[repr(C)]
    struct Attributes {
        program_fd: u32,
        returned: u32,
        input_bytes: u32,
        output_bytes: u32,
        input: u64,
        output: u64,
        repeat: u32,
        duration_ns: u32,
    }
    let has_output = !output.is_empty();
    let mut attributes = Attributes {
        program_fd: raw(program),
        returned: 0,
        input_bytes: u32::try_from(size_of_val(input)).unwrap_or(u32::MAX),
        output_bytes: u32::try_from(output.len()).unwrap_or(u32::MAX),
        input: input.as_ptr() as u64,
        output: if has_output {
            output.as_mut_ptr() as u64
        } else {
            0
        },
        repeat: 1,
        duration_ns: 0,
    };
    bpf(PROG_TEST_RUN, &mut attributes)?;
    Ok((attributes.returned, attributes.output_bytes as usize))
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}
