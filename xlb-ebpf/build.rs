//! Tells the linker how to make the program.

fn main() {
    // By itself the linker has LLVM leave every memset and every memcpy a call to a function, of
    // which each costs a BPF call and the verifier its loop, byte by byte.
    println!("cargo::rustc-link-arg-bins=--disable-expand-memcpy-in-order");
    println!("cargo::rerun-if-changed=build.rs");
}
