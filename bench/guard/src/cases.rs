//! What is counted: the hot functions of an exchange one by one, and whole exchanges.
//!
//! A case is set up once, warmed up, and then repeated [`ITERATIONS`] times inside [`measured`].

mod message;
mod heads;
mod choices;
mod exchange;
mod quic_pair;

use anyhow::Context as _;

/// Iterations counted. Enough to average what happens only now and then, such as an acknowledgement.
pub(crate) const ITERATIONS: u32 = 256;

/// Iterations before, which grow tables and end the start of a connection.
const WARM_UP: u32 = 64;

/// One iteration.
type Work = Box<dyn FnMut()>;

/// A name and how to begin.
type Case = (&'static str, fn() -> Work);

/// In the order of an exchange.
const CASES: [Case; 16] = [
    ("edge_authority", heads::edge_authority),
    ("edge_route", choices::route),
    ("edge_steering", choices::steering),
    ("edge_tunnel_request", heads::edge_tunnel_request),
    ("edge_request_head", heads::edge_request_head),
    ("edge_response_head", heads::edge_response_head),
    ("wire_decode_request", heads::wire_decode_request),
    ("wire_decode_response", heads::wire_decode_response),
    ("wire_encode_request", heads::wire_encode_request),
    ("wire_encode_response", heads::wire_encode_response),
    ("connector_request_head", heads::connector_request_head),
    ("connector_response_head", heads::connector_response_head),
    ("connector_ingress", choices::ingress),
    ("exchange_heads", exchange::heads),
    ("exchange_over_quic", exchange::over_quic),
    ("quic_alone", exchange::quic_alone),
];

/// Names of the cases.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    CASES.iter().map(|(name, _)| *name)
}

/// Does a case; to be run under callgrind.
pub(crate) fn work(name: &str) -> anyhow::Result<()> {
    let case = CASES.iter().find(|(case, _)| *case == name);
    let (_, set_up) = case.with_context(|| format!("there is no case {name}"))?;
    let mut work = set_up();
    for _ in 0..WARM_UP {
        work();
    }
    measured(&mut work);
    Ok(())
}

/// Everything that is counted happens in here; callgrind knows it by its name.
#[inline(never)]
fn measured(work: &mut Work) {
    for _ in 0..ITERATIONS {
        work();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_does_its_work() {
        for name in names() {
            work(name).unwrap();
        }
    }
}
