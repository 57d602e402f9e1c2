//! What a configuration asks of the data path.

use xlb_control::config::Config;

use crate::{
    dataplane::{Interface, Spec},
    engine::{self, goal},
    netlink::InterfaceView,
};

/// What a configuration asks of the data path, on the interfaces that there are. `key`: of the flow
/// hash.
pub(super) fn spec(config: &Config, view: &InterfaceView, key: [u8; 16]) -> Spec {
    Spec {
        interfaces: view
            .present
            .iter()
            .map(|interface| Interface {
                name: interface.configured.clone(),
                ifindex: interface.ifindex,
            })
            .collect(),
        mode: config.dataplane.mode,
        features: goal::features(config),
        hash_key: hash_words(key),
        sizes: engine::sizes(config, None),
    }
}

/// The key of the flow hash, as the program has it.
pub(crate) fn hash_words(key: [u8; 16]) -> [u64; 2] {
    [0, 8].map(|from: usize| {
        let mut part = [0; 8];
        part.copy_from_slice(&key[from..from + 8]);
        u64::from_le_bytes(part)
    })
}
