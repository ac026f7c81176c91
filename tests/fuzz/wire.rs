//! Decoders of `adit-wire`.

use crate::engine::MemoryBound;

mod heads;
mod http2;
mod rpc;
mod datagrams;
mod files;
mod names;

/// For decoders that keep their input, perhaps twice over, and little else.
const SMALL: MemoryBound = MemoryBound {
    base_bytes: 4 * 1024,
    factor: 8,
};
