//! gRPC through the stock connector, which carries trailers over HTTP/2 only.

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::grpc::{ALL_KINDS, Scheme, Service, call};
use adit_tests::site::connector::{Connector, Program};
use adit_tests::site::control::Tunnel;
use adit_tests::site::{HOST, Site};

use crate::Over;

/// Starts a stock replica of `tunnel` that serves `service`.
fn replica(
    stock: &std::path::Path,
    site: &Site,
    tunnel: &Tunnel,
    service: &Service,
    over: Over,
) -> Connector {
    let rules = format!(
        "  - service: {}\n    originRequest: {{noTLSVerify: true, http2Origin: true}}\n",
        service.tls_url()
    );
    let connector = site
        .connector_of(Program::Stock(stock.to_path_buf()), tunnel)
        .run_flags(over.flags())
        .ingress(&rules)
        .start();
    connector.wait_connections(4);
    connector
}

fn grpc_takes_the_connections_that_carry_trailers(io: IoMode) {
    let Some(stock) = crate::stock("grpc_takes_the_connections_that_carry_trailers") else {
        return;
    };
    let (mut service, site) = (Service::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _quic = replica(&stock, &site, &tunnel, &service, Over::Quic);
    // Nothing is sent to a service whose answer would not come back.
    call(
        &site,
        HOST,
        Scheme::Tls,
        &["refused=UNIMPLEMENTED=trailers-not-carried"],
    );
    let http2 = replica(&stock, &site, &tunnel, &service, Over::Http2);
    call(&site, HOST, Scheme::Tls, &["ready"]);
    for scheme in [Scheme::Plain, Scheme::Tls] {
        call(&site, HOST, scheme, &ALL_KINDS);
    }
    call(&site, HOST, Scheme::Tls, &["cancelled", "late"]);
    for end in ["ended cancelled", "ended late"] {
        service.process.wait_line(end, deadline::STEP);
    }
    drop(http2);
    call(
        &site,
        HOST,
        Scheme::Tls,
        &["refused=UNIMPLEMENTED=trailers-not-carried"],
    );
}

adit_tests::in_both_modes!(grpc_takes_the_connections_that_carry_trailers);
