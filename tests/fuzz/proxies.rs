//! What proxies answer to a connector, and what people write about proxies.

use adit_proto::traversal::{Direct, Proxy, Step};
use bytes::BytesMut;

use crate::engine::{MemoryBound, Target, run};

const SMALL: MemoryBound = MemoryBound {
    base_bytes: 16 * 1024,
    factor: 8,
};

/// Turns of one conversation: more than any has.
const TURNS_MAX: usize = 5;

#[test]
fn proxy_answer() {
    run(&Target {
        name: "proxy_answer",
        memory: SMALL,
        check: |input| {
            for url in [
                "http://u:p@proxy.test",
                "socks5://u:p@proxy.test",
                "socks5://proxy.test",
            ] {
                let proxy: Proxy = url.parse().expect("a proxy");
                let (mut traversal, _) = proxy.begin("edge.test", 7844).expect("a destination");
                let mut read = BytesMut::from(input);
                for turn in 0.. {
                    let before = read.len();
                    let Ok(Step::Send(_)) = traversal.handle(&mut read) else {
                        break;
                    };
                    assert!(
                        read.len() < before && turn < TURNS_MAX,
                        "a conversation goes on by what was read"
                    );
                }
            }
        },
    });
}

#[test]
fn proxy_text() {
    run(&Target {
        name: "proxy_text",
        memory: SMALL,
        check: |input| {
            let Ok(text) = std::str::from_utf8(input) else {
                return;
            };
            let direct = Direct::parse(text);
            direct.covers(text, 1);
            let Ok(proxy) = text.parse::<Proxy>() else { return };
            assert_eq!(
                proxy.to_string().parse::<Proxy>().map(|again| again.to_string()),
                Ok(proxy.to_string())
            );
            let _told = proxy.begin(text, 1);
        },
    });
}
