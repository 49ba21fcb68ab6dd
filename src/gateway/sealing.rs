//! From the configuration to the codec: which records are sealed, which are read, and what is compressed.

use crate::config;
use crate::store::codec::{Codec, Compression, Sealing};

/// The codec that all handles on one store share.
pub(super) fn codec(config: &config::Store) -> Codec {
    let keys: Vec<&[u8; 32]> = config.encryption_keys.iter().map(config::EncryptionKey::reveal).collect();
    let sealing = if config.open_only {
        Sealing::OpenOnly(&keys)
    } else {
        Sealing::On { keys: &keys, accept_unsealed: config.accept_unsealed }
    };
    let compression = match config.compression {
        config::Compression::Off => Compression::Off,
        config::Compression::Zstd => Compression::Zstd,
    };
    Codec::new(sealing, compression)
}
