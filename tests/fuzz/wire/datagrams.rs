//! Datagrams of both framings.

use adit_wire::datagram::{v2, v3};
use bytes::Bytes;

use crate::engine::{Target, run};

#[test]
fn datagram_v2() {
    run(&Target {
        name: "datagram_v2",
        memory: super::SMALL,
        check: |input| {
            if let Ok(datagram) = v2::decode(Bytes::copy_from_slice(input)) {
                assert_eq!(
                    v2::encode(&datagram).expect("a decoded datagram is within its limits"),
                    input
                );
            }
        },
    });
}

#[test]
fn datagram_v3() {
    run(&Target {
        name: "datagram_v3",
        memory: super::SMALL,
        check: |input| {
            // Unknown flags and bytes that no flag announces are dropped, so values are compared.
            if let Ok(datagram) = v3::decode(Bytes::copy_from_slice(input)) {
                let again = v3::encode(&datagram).expect("a decoded datagram is within its limits");
                assert_eq!(v3::decode(again), Ok(datagram));
            }
        },
    });
}
