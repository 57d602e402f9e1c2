//! Writes the balancer's maps as the agent would.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf,
    maps::{Array, LpmTrie, MapData, lpm_trie::Key},
};
use xlb_agent::endpoint;
use xlb_common::{
    endpoint::{EndpointKey, EndpointTarget},
    limits::{ENDPOINT_PROBES, ENDPOINT_TABLE_MIN},
    maps::{NextHop, name},
    wide::{self, BITS_BEFORE_ADDRESS, BITS_BEFORE_PORT},
};
use xlb_control::config::spread;

/// An array whose values have `N` bytes.
///
/// # Errors
///
/// There is none of this name and size.
pub fn array<'a, const N: usize>(
    ebpf: &'a mut Ebpf,
    map: &str,
) -> Result<Array<&'a mut MapData, [u8; N]>> {
    let data = ebpf.map_mut(map).with_context(|| format!("no map {map}"))?;
    Array::try_from(data).with_context(|| format!("the map {map}"))
}

/// Puts a value into an array.
///
/// # Errors
///
/// The array has no values of this size, or no such entry.
pub fn put<const N: usize>(ebpf: &mut Ebpf, map: &str, index: u32, value: [u8; N]) -> Result<()> {
    array::<N>(ebpf, map)?
        .set(index, value, 0)
        .with_context(|| format!("write entry {index} of {map}"))
}

/// The bytes of a value of a map.
#[must_use]
pub fn bytes_of<T: Copy, const N: usize>(value: &T) -> [u8; N] {
    const { assert!(size_of::<T>() == N) };
    // SAFETY: the maps' values are plain integers without padding, N bytes as asserted.
    unsafe { std::ptr::from_ref(value).cast::<[u8; N]>().read() }
}

/// Names what an endpoint of a VIP (or, of `replies`, of a backend) stands for.
///
/// # Errors
///
/// The table has no place for it.
pub fn put_endpoint(
    ebpf: &mut Ebpf,
    replies: bool,
    at: SocketAddr,
    protocol: u8,
    to: EndpointTarget,
) -> Result<()> {
    let target = bytes_of::<_, 8>(&to);
    match EndpointKey::of(at, protocol) {
        EndpointKey::V4(key) => {
            let map = if replies { name::REPLIES4 } else { name::VIPS4 };
            let mut entry = [0; 16];
            entry[..8].copy_from_slice(&key.0.to_ne_bytes());
            entry[8..].copy_from_slice(&target);
            put_hashed(ebpf, map, entry, 8, key.home())
        }
        EndpointKey::V6(key) => {
            let map = if replies { name::REPLIES6 } else { name::VIPS6 };
            let mut entry = [0; 32];
            entry[..16].copy_from_slice(&endpoint::bytes(at.ip()));
            entry[16..20].copy_from_slice(&key.port_protocol.to_ne_bytes());
            entry[24..].copy_from_slice(&target);
            put_hashed(ebpf, map, entry, 24, key.home())
        }
    }
    .with_context(|| format!("the endpoint {at}"))
}

fn put_hashed<const N: usize>(
    ebpf: &mut Ebpf,
    map: &str,
    entry: [u8; N],
    key_bytes: usize,
    home: u32,
) -> Result<()> {
    let mut array = array::<N>(ebpf, map)?;
    for probe in 0..ENDPOINT_PROBES {
        let index = home.wrapping_add(probe) & (ENDPOINT_TABLE_MIN - 1);
        let there = array.get(&index, 0)?;
        if there == [0; N] || there[..key_bytes] == entry[..key_bytes] {
            array.set(index, entry, 0)?;
            return Ok(());
        }
    }
    bail!("{map} has no place left near {home}")
}

/// Has a prefix of addresses lead to a table of this number, and the table's ports to what they have.
///
/// # Errors
///
/// The kernel refuses it.
pub fn put_ports(
    ebpf: &mut Ebpf,
    direction: u32,
    number: u32,
    table: &spread::Table<EndpointTarget>,
) -> Result<()> {
    let map = ebpf.map_mut(name::PORTS).context("no such map")?;
    let mut ports = LpmTrie::<_, [u8; 8], u64>::try_from(map)?;
    for (&protocol, pieces) in &table.ports {
        for (of, target) in pieces {
            for (port, bits) in of.prefixes() {
                let key = wide::port(number, protocol, port.to_be()).to_ne_bytes();
                let key = Key::new(BITS_BEFORE_PORT + u32::from(bits), key);
                ports.insert(&key, wide::word(*target), 0)?;
            }
        }
    }
    let bits = BITS_BEFORE_ADDRESS + u32::from(table.vip.bits());
    match table.vip.address() {
        IpAddr::V4(address) => {
            let map = ebpf.map_mut(name::WIDE4).context("no such map")?;
            let mut trie = LpmTrie::<_, [u8; 8], u64>::try_from(map)?;
            let address_be = u32::from_ne_bytes(address.octets());
            let key = wide::place4(direction, address_be).to_ne_bytes();
            trie.insert(&Key::new(bits, key), u64::from(number), 0)?;
        }
        IpAddr::V6(address) => {
            let map = ebpf.map_mut(name::WIDE6).context("no such map")?;
            let mut trie = LpmTrie::<_, [u8; 20], u64>::try_from(map)?;
            let mut key = [0; 20];
            key[..4].copy_from_slice(&direction.to_ne_bytes());
            key[4..].copy_from_slice(&address.octets());
            trie.insert(&Key::new(bits, key), u64::from(number), 0)?;
        }
    }
    Ok(())
}

/// Tells the program the next hop towards a prefix.
///
/// # Errors
///
/// The kernel refuses it.
pub fn put_route(ebpf: &mut Ebpf, prefix: IpAddr, bits: u32, hop: NextHop) -> Result<()> {
    match prefix {
        IpAddr::V4(address) => {
            let map = ebpf.map_mut(name::ROUTES4).context("no such map")?;
            let mut trie = LpmTrie::<_, [u8; 4], u64>::try_from(map)?;
            trie.insert(&Key::new(bits, address.octets()), hop.0, 0)?;
        }
        IpAddr::V6(address) => {
            let map = ebpf.map_mut(name::ROUTES6).context("no such map")?;
            let mut trie = LpmTrie::<_, [u8; 16], u64>::try_from(map)?;
            trie.insert(&Key::new(bits, address.octets()), hop.0, 0)?;
        }
    }
    Ok(())
}
