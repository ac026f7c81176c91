//! The stock connector, our edge and our control come and go.

use std::time::Duration;

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::Site;
use nix::sys::signal::Signal;

use crate::{Over, over_both};

/// How long the stock connector's back-off may keep it away.
const BACK_LIMIT: Duration = Duration::from_secs(60);

fn a_connector_restarts(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("a_connector_restarts") else {
        return;
    };
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let mut connector = crate::serve(stock, &site, &tunnel, &origin.url(), over);
    // It finishes what it has, and leaves early because the edge closes what it has given back.
    let held = site.visit("/hold?gate=slow").start();
    origin.wait_mark("slow", 1, deadline::STEP);
    connector.process.signal(Signal::SIGTERM);
    deadline::until_true("new visitors to be sent elsewhere", deadline::STEP, || {
        site.visit("/seen").run().status == 503
    });
    origin.open("slow", 1);
    assert_eq!(held.finish().text(), "held");
    connector.process.wait_exit(Duration::from_secs(15));
    connector.start_again();
    connector.wait_connections(4);
    site.wait_served();
    connector.process.kill();
    connector.start_again();
    connector.wait_connections(4);
    deadline::until_true("the page", deadline::STEP, || {
        site.visit("/seen").run().status == 200
    });
}

fn an_edge_restarts(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("an_edge_restarts") else {
        return;
    };
    let (origin, mut site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let connector = crate::serve(stock, &site, &tunnel, &origin.url(), over);
    for kill in [false, true] {
        if kill {
            site.edge.process.kill();
        } else {
            assert!(site.edge.process.terminate(deadline::STEP).success());
        }
        site.edge.start_again();
        deadline::until_true("the page", BACK_LIMIT, || site.visit("/seen").run().status == 200);
        connector.wait_connections(4);
    }
}

fn control_restarts_and_nobody_notices(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("control_restarts_and_nobody_notices") else {
        return;
    };
    let (origin, mut site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let mut connector = crate::serve(stock, &site, &tunnel, &origin.url(), over);
    site.control.process.kill();
    assert_eq!(site.visit("/seen").run().status, 200);
    connector.process.kill();
    connector.start_again();
    connector.wait_connections(4);
    site.wait_served();
    site.control.start_again();
    deadline::until_true("control to know", deadline::STEP, || {
        site.control.connection_count(&tunnel) == 4
    });
}

over_both!(
    a_connector_restarts,
    an_edge_restarts,
    control_restarts_and_nobody_notices
);
