//! Connection ids that name their core.
//!
//! ```text
//! byte  0                     1..3        3      4            5..12
//!      | config 3b | length 5b | server id | core | generation | random …
//! ```
//! The layout is QUIC-LB's unencrypted one (draft-ietf-quic-load-balancers §3 and §4): an outer L4
//! balancer routes by the server id, the kernel routes by the core byte inside this host. `generation`
//! separates processes that share an address during an upgrade.
//!
//! Every datagram after the first carries an id made here, so it comes back to the core that made it,
//! whatever address it is sent from. A client's first datagram carries a random id: the same byte modulo
//! the number of cores picks the core, which then issues ids of its own.

use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};

use crate::core::CoreId;

/// Where the core byte lies in the id. Below 8, so that a client's random first id has it too
/// (RFC 9000 §7.2 makes that at least 8 bytes).
pub const CORE_OFFSET: usize = 3;

/// Length of every id we issue, bytes: 7 of them random.
pub const CID_BYTES: usize = 12;

const GENERATION_OFFSET: usize = 4;
/// Config id 0 and the number of bytes that follow, as QUIC-LB encodes them in the first byte.
const FIRST_BYTE: u8 = (CID_BYTES - 1) as u8;

/// Names this host in connection ids; an outer balancer is configured with the same value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerId(pub [u8; 2]);

pub(crate) struct CoreIds {
    pub(crate) core: CoreId,
    pub(crate) server: ServerId,
    pub(crate) generation: u8,
}

impl ConnectionIdGenerator for CoreIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CID_BYTES];
        // Without randomness of the system nothing in QUIC is safe; quinn-proto takes the same stance.
        getrandom::fill(&mut id).expect("the system's random source answers");
        id[0] = FIRST_BYTE;
        id[1..CORE_OFFSET].copy_from_slice(&self.server.0);
        id[CORE_OFFSET] = self.core.0 as u8;
        id[GENERATION_OFFSET] = self.generation;
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        if id.first() == Some(&FIRST_BYTE) {
            Ok(())
        } else {
            Err(InvalidCid)
        }
    }

    fn cid_len(&self) -> usize {
        CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The core a datagram is meant for, or `None` when it is too short to say.
pub(crate) fn core_of(datagram: &[u8], cores: usize) -> Option<CoreId> {
    let first = *datagram.first()?;
    // RFC 8999 §5.1 and §5.2: long headers put a version and a length byte before the id.
    let is_long = first & 0x80 != 0;
    let start = if is_long { 6 } else { 1 };
    let byte = *datagram.get(start + CORE_OFFSET)?;
    Some(CoreId((usize::from(byte) % cores.max(1)) as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_their_core_in_both_header_forms() {
        let mut ids = CoreIds {
            core: CoreId(1),
            server: ServerId([7, 9]),
            generation: 3,
        };
        let id = ids.generate_cid();
        assert_eq!(id.len(), CID_BYTES);
        assert_eq!(&id[..5], &[FIRST_BYTE, 7, 9, 1, 3]);
        assert!(ids.validate(&id).is_ok());

        let mut short = vec![0x40];
        short.extend_from_slice(&id);
        assert_eq!(core_of(&short, 2), Some(CoreId(1)));

        let mut long = vec![0xc0, 0, 0, 0, 1, CID_BYTES as u8];
        long.extend_from_slice(&id);
        assert_eq!(core_of(&long, 2), Some(CoreId(1)));
    }

    #[test]
    fn a_random_first_id_maps_to_one_of_the_cores() {
        for byte in 0..=255u8 {
            let datagram = [0xc0, 0, 0, 0, 1, 8, 0, 0, 0, byte, 0, 0, 0, 0];
            assert_eq!(core_of(&datagram, 3), Some(CoreId(u16::from(byte) % 3)));
        }
    }

    #[test]
    fn datagrams_too_short_for_an_id_name_no_core() {
        assert_eq!(core_of(&[], 2), None);
        assert_eq!(core_of(&[0x40, 1, 2, 3], 2), None);
        assert_eq!(core_of(&[0xc0, 1, 2, 3, 4, 5, 6, 7, 8], 2), None);
    }
}
