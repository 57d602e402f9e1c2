//! What is read from ELF files: symbols of an eBPF object that betray a panic, and the LLVM that a
//! bpf-linker loads.

use anyhow::{Context, Result};
use object::{
    Object, ObjectSymbol,
    elf::FileHeader64,
    read::elf::{Dyn, ElfFile, FileHeader},
};

/// Every symbol that belongs to Rust's machinery for panics. A program that could panic was not
/// proved by the compiler to stay within its bounds, and would spin in the panic handler.
///
/// # Errors
///
/// The bytes are no object file.
pub(crate) fn panic_symbols(bytes: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(bytes).context("read the eBPF object's symbols")?;
    Ok(file
        .symbols()
        .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
        .filter(|name| name.contains("panicking") || name.contains("rust_begin_unwind"))
        .collect())
}

/// The major version in the name of the LLVM library that a program loads: 22 for
/// `libLLVM.so.22.1`. None when it loads none.
pub(crate) fn llvm_of_needed_libraries(bytes: &[u8]) -> Option<u32> {
    let file = ElfFile::<FileHeader64<object::Endianness>>::parse(bytes).ok()?;
    let endian = file.endian();
    let sections = file.elf_header().sections(endian, bytes).ok()?;
    let (entries, strings) = sections.dynamic(endian, bytes).ok()??;
    let strings = sections.strings(endian, bytes, strings).ok()?;
    entries
        .iter()
        .filter(|entry| entry.tag(endian) == object::elf::DT_NEEDED)
        .filter_map(|entry| entry.string(endian, strings).ok())
        .find_map(|name| llvm_of_library_name(std::str::from_utf8(name).ok()?))
}

/// Both `libLLVM.so.22.1` and the older `libLLVM-17.so.1` are in use.
fn llvm_of_library_name(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("libLLVM")?;
    let version = rest
        .strip_prefix(".so.")
        .or_else(|| rest.strip_prefix('-'))?;
    version.split(['.', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use object::{
        Architecture, BinaryFormat, Endianness, SymbolFlags, SymbolKind, SymbolScope, write,
    };

    use super::*;

    fn object_with_symbols(names: &[&str]) -> Vec<u8> {
        let mut file = write::Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
        for name in names {
            file.add_symbol(write::Symbol {
                name: name.as_bytes().to_vec(),
                value: 0,
                size: 0,
                kind: SymbolKind::Text,
                scope: SymbolScope::Linkage,
                weak: false,
                section: write::SymbolSection::Undefined,
                flags: SymbolFlags::None,
            });
        }
        file.write().unwrap()
    }

    #[test]
    fn an_object_without_panics_is_clean() {
        let bytes = object_with_symbols(&["xlb", "memcpy"]);
        assert_eq!(panic_symbols(&bytes).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn each_symbol_of_a_panic_is_named() {
        let panic = "_ZN4core9panicking18panic_bounds_check17h0123456789abcdefE";
        let bytes = object_with_symbols(&["xlb", panic]);
        assert_eq!(panic_symbols(&bytes).unwrap(), vec![panic.to_owned()]);
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        assert!(panic_symbols(b"not an object").is_err());
    }

    #[test]
    fn the_version_of_llvm_stands_in_its_librarys_name() {
        assert_eq!(llvm_of_library_name("libLLVM.so.22.1"), Some(22));
        assert_eq!(llvm_of_library_name("libLLVM-17.so.1"), Some(17));
        assert_eq!(llvm_of_library_name("libz.so.1"), None);
    }

    #[test]
    fn a_program_without_llvm_has_no_version_of_it() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(llvm_of_needed_libraries(&own), None);
    }
}
