//! What rules change on the way: paths, headers, and the visitor's address by the PROXY protocol.

use adit_tests::binary::IoMode;
use adit_tests::origin::nginx::Nginx;
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::{HOST, Site};

/// Every request of the tests' visitors comes from there.
const VISITOR: &str = "127.0.0.1";

fn paths_and_headers_are_changed(io: IoMode) {
    let (nginx, scripted, site) = (Nginx::start(), Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let keys = "stripPrefix: /app, pathRewrite: {match: '^/v[0-9]+/(.*)$', replace: '/$1'}, \
                requestHeaders: {set: {X-Rule: set, X-Tag: here}, remove: [Cookie]}, \
                responseHeaders: {set: {Server: hidden}, add: {X-Frame-Options: DENY}, remove: [X-Short-1]}";
    let rules = format!(
        "  - hostname: {HOST}\n    path: ^/seen\n    service: {}\n    originRequest: {{requestHeaders: {{add: {{X-Tag: seen}}}}}}\n  \
         - hostname: {HOST}\n    path: ^/ws\n    service: {}\n    originRequest: {{responseHeaders: {{set: {{X-Over: websocket}}}}}}\n  \
         - service: {}\n    originRequest: {{{keys}}}\n",
        scripted.url(),
        scripted.url(),
        nginx.url(),
    );
    let connector = site.connector(&tunnel).ingress(&rules).start();
    connector.wait_connections(4);
    site.wait_served();
    let told = site
        .visit("/app/v2/tell?x=%20/app")
        .header("Cookie: secret=1")
        .header("X-Rule: visitor")
        .run();
    assert_eq!(told.line("uri"), "/tell?x=%20/app");
    assert_eq!(
        (told.line("x-rule"), told.line("cookie")),
        ("set".to_owned(), String::new())
    );
    assert_eq!(told.all("server"), ["hidden"]);
    assert_eq!(told.all("x-frame-options"), ["DENY"]);
    let headers = site.visit("/app/headers").run();
    assert_eq!(
        (headers.header("x-short-1"), headers.header("x-short-2")),
        (None, Some("value-2"))
    );
    assert_eq!(
        site.visit("/apptell").run().status,
        404,
        "only whole segments are cut off"
    );
    let seen = site
        .visit("/seen")
        .header("X-Tag: visitor")
        .run()
        .text()
        .to_lowercase();
    assert!(
        seen.contains("x-tag: visitor") && seen.contains("x-tag: seen"),
        "{seen}"
    );
    let switched = site
        .visit("/ws-refuse")
        .header("Connection: Upgrade")
        .header("Upgrade: websocket")
        .header("Sec-WebSocket-Version: 13")
        .header("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
        .run();
    assert_eq!(
        (switched.status, switched.header("x-over")),
        (403, Some("websocket"))
    );
}

fn origins_are_told_the_visitors_address(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let hosts = ["one.example.test", "two.example.test"];
    for host in hosts {
        site.control.route(&tunnel, host);
    }
    let url = nginx.proxied_url();
    let rules = format!(
        "  - hostname: one.example.test\n    service: {url}\n    originRequest: {{proxyProtocol: v1}}\n  \
         - hostname: two.example.test\n    service: {url}\n    originRequest: {{proxyProtocol: v2}}\n  \
         - service: {}\n",
        nginx.url(),
    );
    let connector = site.connector(&tunnel).ingress(&rules).start();
    connector.wait_connections(4);
    site.wait_served();
    for host in hosts {
        let mut connections = Vec::new();
        for _ in 0..3 {
            let told = adit_tests::deadline::until("an answer", adit_tests::deadline::STEP, || {
                let told = site.visit_host(host, "/tell").run();
                (told.status == 200).then_some(told)
            });
            assert_eq!(told.line("proxied-for"), VISITOR, "{host}");
            connections.push(told.line("connection-number"));
        }
        connections.dedup();
        assert_eq!(connections.len(), 3, "each request has a connection of its own");
    }
    assert_eq!(site.visit("/tell").run().line("proxied-for"), "");
}

adit_tests::in_both_modes!(
    paths_and_headers_are_changed,
    origins_are_told_the_visitors_address,
);
