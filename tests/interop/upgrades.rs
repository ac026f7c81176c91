//! Upgrades that only our connectors carry, for a tunnel that has a stock replica as well.

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::handmade::Handmade;
use adit_tests::site::connector::Program;
use adit_tests::site::{HOST, Site};
use adit_tests::visitor::raw::Raw;

use crate::{Over, over_both};

/// Upgrades that all go to the same one of two replicas by a chance of one in 2^20.
const UPGRADES: u32 = 20;

/// Switches to what it is asked for, if it is, and says that it was not.
fn origin() -> Handmade {
    Handmade::start(|talk| {
        while let Some(head) = talk.head()? {
            if head.contains("Upgrade: tcp\r\n") {
                talk.send("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")?;
                return talk.echo();
            }
            talk.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
        Ok(())
    })
}

fn upgrades_go_to_the_replica_that_carries_them(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("upgrades_go_to_the_replica_that_carries_them") else {
        return;
    };
    let origin = origin();
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let start = |program| {
        let connector = site
            .connector_of(program, &tunnel)
            .run_flags(over.flags())
            .service(&origin.url())
            .start();
        connector.wait_connections(4);
        connector
    };
    let _stock = start(Program::Stock(stock));
    site.wait_served();
    let ask = || {
        let mut visitor = Raw::connect(site.edge.http());
        visitor.send(format!(
            "GET /switch HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        ));
        let head = visitor.read_until("\r\n\r\n", deadline::STEP);
        (visitor, head)
    };
    let (_visitor, head) = ask();
    assert!(
        head.starts_with("HTTP/1.1 200 "),
        "asked as if for nothing: {head}"
    );
    let ours = start(Program::Adit);
    for _ in 0..UPGRADES {
        let (mut visitor, head) = ask();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        visitor.send("ping");
        visitor.read_until("ping", deadline::STEP);
    }
    drop(ours);
}

over_both!(upgrades_go_to_the_replica_that_carries_them);
