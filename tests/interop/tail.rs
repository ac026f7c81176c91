//! The log of a stock connector, read through our edge; and what the stock `tail` makes of a token of ours.

use adit_tests::binary::{self, IoMode};
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::process::{Process, command};
use adit_tests::site::SiteSettings;
use adit_tests::visitor::tail::{EDGE_LINES, adit};

use crate::Over;

fn the_log_of_a_stock_connector_is_followed(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("the_log_of_a_stock_connector_is_followed") else {
        return;
    };
    let (nginx, site) = (
        Nginx::start(),
        SiteSettings::new(io).edge_lines(EDGE_LINES).start(),
    );
    let tunnel = site.tunnel("lab");
    let _connector = crate::serve(stock, &site, &tunnel, &nginx.url(), over);
    let mut tail = Process::start("tail", adit(&site, binary::adit()).arg("lab"));
    // Nothing says when the stream has begun but a line in it.
    deadline::until_true("a line about a visit", deadline::STEP, || {
        assert_eq!(site.visit("/").run().status, 200);
        tail.log().contains(" debug http GET ")
    });
    assert!(tail.terminate(deadline::STEP).success());
}

/// The stock `tail` speaks to port 443 of a name in DNS only; so it is seen to take our control's token.
#[test]
fn the_stock_tail_takes_a_token_of_our_control() {
    let Some(stock) = crate::stock("the_stock_tail_takes_a_token_of_our_control") else {
        return;
    };
    let site = SiteSettings::new(IoMode::Portable).edge_lines(EDGE_LINES).start();
    let tunnel = site.tunnel("lab");
    let mut token = command(&stock);
    token
        .env("HOME", site.folder())
        .args(["--api-url", site.control.api(), "tail", "--origincert"])
        .arg(site.control.origin_cert())
        .args(["token", &tunnel.id.to_string()]);
    let done = binary::output(&mut token);
    let said = String::from_utf8_lossy(&done.stdout);
    let token: serde_json::Value = serde_json::from_str(said.trim()).unwrap_or_default();
    assert!(token["token"].is_string(), "{done:?}");
}

crate::over_both!(the_log_of_a_stock_connector_is_followed);
