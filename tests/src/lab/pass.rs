//! An XDP program that passes every packet: `r0 = XDP_PASS; exit`.

use std::{ffi::CString, io, os::unix::ffi::OsStrExt as _, path::Path};

/// `BPF_PROG_LOAD` of bpf(2).
const PROG_LOAD: libc::c_int = 5;
/// `BPF_OBJ_PIN` of bpf(2).
const OBJ_PIN: libc::c_int = 6;
/// `BPF_PROG_TYPE_XDP`.
const TYPE_XDP: u32 = 6;

/// What bpf(2) reads for `BPF_PROG_LOAD`, as far as it is needed.
#[repr(C)]
struct Load {
    program_type: u32,
    instructions: u32,
    code: u64,
    license: u64,
}

/// What bpf(2) reads for `BPF_OBJ_PIN`.
#[repr(C)]
struct Pin {
    path: u64,
    descriptor: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads as many bytes as it is told, all of them of `attributes`.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer as libc::c_int)
    }
}

/// Loads the program and pins it.
pub(super) fn pin(path: &Path) -> io::Result<()> {
    // 64-bit move of 2 (XDP_PASS) to r0, then exit, as the kernel's instruction set has them.
    let code: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
    let load = Load {
        program_type: TYPE_XDP,
        instructions: 2,
        code: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
    };
    let descriptor = bpf(PROG_LOAD, &load)?;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let pin = Pin {
        path: path.as_ptr() as u64,
        descriptor: descriptor.unsigned_abs(),
        flags: 0,
    };
    let pinned = bpf(OBJ_PIN, &pin);
    // SAFETY: the descriptor came from the kernel just now, and is not used again.
    unsafe { libc::close(descriptor) };
    pinned.map(|_| ())
}
