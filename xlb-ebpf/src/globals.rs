//! What the agent tells the program when it loads it. The map of these values is frozen, so that the
//! verifier takes them for constants and removes what can't run.

use xlb_common::maps::global;

macro_rules! globals {
    ($($(#[$doc:meta])+ $name:ident: $type:ty = $default:expr, read by $get:ident;)+) => {
        $(
            $(#[$doc])+
            #[unsafe(no_mangle)]
            static $name: $type = $default;

            $(#[$doc])+
            #[inline(always)]
            pub fn $get() -> $type {
                // SAFETY: a reference to a static is valid; the read is volatile since the agent
                // writes another value than the compiler sees.
                unsafe { core::ptr::read_volatile(&raw const $name) }
            }

            const _: () = assert!(matches!(global::$name.as_bytes(), bytes if bytes.len() == stringify!($name).len()));
        )+
    };
}

globals! {
    /// Key of the flow hash.
    HASH_KEY: [u64; 2] = [0; 2], read by hash_key;
    /// Bits of `xlb_common::maps::feature`.
    FEATURES: u32 = u32::MAX, read by features;
    /// Entries of `VIPS4` less one.
    VIPS4_MASK: u32 = 0, read by vips4_mask;
    /// Entries of `VIPS6` less one.
    VIPS6_MASK: u32 = 0, read by vips6_mask;
    /// Entries of `REPLIES4` less one.
    REPLIES4_MASK: u32 = 0, read by replies4_mask;
    /// Entries of `REPLIES6` less one.
    REPLIES6_MASK: u32 = 0, read by replies6_mask;
}

/// Whether the configuration uses a feature.
#[inline(always)]
pub fn has(feature: u32) -> bool {
    features() & feature != 0
}
