//! gRPC through a tunnel, whose trailers say how a call went.

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::grpc::{ALL_KINDS, Scheme, Service, call};
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::connector::Connector;
use adit_tests::site::{HOST, Site, SiteSettings};
use adit_tests::visitor::raw::Raw;

/// Serves `service` in clear at [`HOST`] and over TLS at `tls.example.test`.
fn serve(site: &Site, service: &Service, transport: &str) -> Connector {
    let tunnel = site.tunnel("lab");
    site.control.route(&tunnel, "tls.example.test");
    let rules = format!(
        "  - hostname: tls.example.test\n    service: {}\n    originRequest: {{noTLSVerify: true, http2Origin: true}}\n  \
         - service: {}\n    originRequest: {{h2cOrigin: true}}\n",
        service.tls_url(),
        service.url(),
    );
    let mut settings = site.connector(&tunnel).ingress(&rules);
    settings
        .flags
        .extend(["--protocol", transport].map(str::to_owned));
    let connector = settings.start();
    connector.wait_connections(4);
    for host in [HOST, "tls.example.test"] {
        call(site, host, Scheme::Plain, &["ready"]);
    }
    connector
}

fn all_kinds_of_calls(io: IoMode, transport: &str) {
    // Two cores, so that some visitors are on another one than the connection.
    let (service, site) = (Service::start(), SiteSettings::new(io).cores(2).start());
    let _connector = serve(&site, &service, transport);
    for (host, scheme) in [
        (HOST, Scheme::Plain),
        (HOST, Scheme::Tls),
        ("tls.example.test", Scheme::Plain),
        ("tls.example.test", Scheme::Tls),
    ] {
        call(&site, host, scheme, &ALL_KINDS);
    }
}

fn calls_of_all_kinds_pass_over_quic(io: IoMode) {
    all_kinds_of_calls(io, "quic");
}

fn calls_of_all_kinds_pass_over_http2(io: IoMode) {
    all_kinds_of_calls(io, "http2");
}

fn ends_reach_the_service(io: IoMode, transport: &str) {
    let (mut service, site) = (Service::start(), Site::start(io));
    let _connector = serve(&site, &service, transport);
    call(&site, HOST, Scheme::Tls, &["cancelled"]);
    service.process.wait_line("ended cancelled", deadline::STEP);
    call(&site, HOST, Scheme::Tls, &["late"]);
    let hangs = service.process.wait_line("hangs late remaining ", deadline::STEP);
    let remaining: f64 = hangs
        .split("remaining ")
        .nth(1)
        .and_then(|seconds| seconds.trim().parse().ok())
        .expect("the service knows the deadline");
    assert!(remaining <= 2.0, "{hangs}");
    service.process.wait_line("ended late", deadline::STEP);
}

fn cancels_and_deadlines_reach_the_service_over_quic(io: IoMode) {
    ends_reach_the_service(io, "quic");
}

fn cancels_and_deadlines_reach_the_service_over_http2(io: IoMode) {
    ends_reach_the_service(io, "http2");
}

fn what_no_service_answers_is_told_in_words_of_grpc(io: IoMode) {
    let (service, site) = (Service::start(), Site::start(io));
    let connector = serve(&site, &service, "quic");
    call(
        &site,
        "nobody.example.test",
        Scheme::Tls,
        &["refused=UNIMPLEMENTED=hostname-unknown"],
    );
    drop(service);
    call(
        &site,
        HOST,
        Scheme::Plain,
        &["refused=UNAVAILABLE=origin-unreachable"],
    );
    drop(connector);
    // After the time in which the tunnel may come back.
    call(
        &site,
        HOST,
        Scheme::Tls,
        &["refused=UNAVAILABLE=tunnel-no-connection"],
    );
}

fn trailers_of_http1_pass_to_visitors_who_ask_for_them(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &origin.url());
    let ask = |more: &str, end: &str| {
        let mut visitor = Raw::connect(site.edge.http());
        visitor.send(format!("GET /trailers HTTP/1.1\r\nHost: {HOST}\r\n{more}\r\n"));
        visitor.read_until(end, deadline::STEP).to_lowercase()
    };
    let told = ask("TE: trailers\r\nConnection: TE\r\n", "\r\n0\r\nx-sum: 7\r\n\r\n");
    assert!(
        told.contains("trailer: x-sum\r\n") && told.contains("with a sum"),
        "{told}"
    );
    let untold = ask("", "\r\n0\r\n\r\n");
    assert!(
        !untold.contains("x-sum") && untold.contains("with a sum"),
        "{untold}"
    );
}

adit_tests::in_both_modes!(
    calls_of_all_kinds_pass_over_quic,
    calls_of_all_kinds_pass_over_http2,
    cancels_and_deadlines_reach_the_service_over_quic,
    cancels_and_deadlines_reach_the_service_over_http2,
    what_no_service_answers_is_told_in_words_of_grpc,
    trailers_of_http1_pass_to_visitors_who_ask_for_them,
);
