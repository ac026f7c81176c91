//! What visitors say before their own protocol begins: PROXY headers and the names in ClientHellos.

use adit_proto::client_hello::{self, HELLO_BYTES_MAX, Hello};
use adit_proto::proxy_protocol::{self, HEADER_BYTES_MAX, Said, Version};

use crate::engine::{MemoryBound, Target, run};

/// A message in several records is joined, which doubles as it grows.
const JOINED: MemoryBound = MemoryBound {
    base_bytes: 4 * 1024,
    factor: 8,
};

#[test]
fn proxy_header() {
    run(&Target {
        name: "proxy_header",
        memory: JOINED,
        check: |input| match proxy_protocol::parse(input) {
            Ok(Some(header)) => {
                assert!(header.size <= input.len().min(HEADER_BYTES_MAX));
                assert_eq!(proxy_protocol::parse(&input[..header.size]), Ok(Some(header)));
                let Said::Visitor(ends) = header.said else { return };
                for version in [Version::V1, Version::V2] {
                    let written = proxy_protocol::encode(version, &header.said);
                    let again = proxy_protocol::parse(&written).expect("what we write is lawful");
                    let again = again.expect("what we write is whole");
                    assert_eq!(again.size, written.len());
                    let Said::Visitor(again) = again.said else {
                        panic!("a visitor was written");
                    };
                    for (told, meant) in [(again.source, ends.source), (again.destination, ends.destination)]
                    {
                        assert_eq!(told.ip().to_canonical(), meant.ip().to_canonical());
                        assert_eq!(told.port(), meant.port());
                    }
                }
            }
            Ok(None) => assert!(input.len() < HEADER_BYTES_MAX),
            Err(_) => {}
        },
    });
}

#[test]
fn client_hello() {
    run(&Target {
        name: "client_hello",
        memory: JOINED,
        check: |input| match client_hello::read(input) {
            Hello::Unfinished => assert!(input.len() < HELLO_BYTES_MAX),
            Hello::Named(name) => {
                assert!(name.len() < input.len());
                // More bytes change nothing.
                let more = [input, b"more"].concat();
                assert_eq!(client_hello::read(&more), Hello::Named(name));
            }
            Hello::Nameless => {}
        },
    });
}
