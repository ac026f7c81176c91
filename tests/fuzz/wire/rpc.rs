//! Cap'n Proto RPC: the gate before the reader, and the messages that follow it.

use adit_wire::config_push::{ConfigApplied, ConfigUpdate};
use adit_wire::framing::{FrameGate, RPC_READER_OPTIONS, UNREGISTERED_MESSAGE_BYTES_MAX, message_size};
use adit_wire::registration::{RegisterRequest, RegisterResponse};
use adit_wire::tunnelrpc_capnp::{configuration_manager, registration_server};
use capnp::message::Builder;
use capnp::traits::Owned;
use capnp_rpc::rpc_capnp;

use crate::engine::{MemoryBound, Target, run};

/// The reader allocates what a table announces, which the gate has bounded, and the decoded value is
/// written once more by a builder that starts with 8 KiB and doubles.
const MESSAGE: MemoryBound = MemoryBound {
    base_bytes: UNREGISTERED_MESSAGE_BYTES_MAX as u64 + 64 * 1024,
    factor: 16,
};

type RegisterParams = registration_server::register_connection_params::Owned;
type RegisterResults = registration_server::register_connection_results::Owned;
type UpdateParams = configuration_manager::update_configuration_params::Owned;
type UpdateResults = configuration_manager::update_configuration_results::Owned;

/// Hands every RPC message that the gate lets through to `visit`: the content of a call's parameters
/// or of a return's results.
fn for_each_payload(input: &[u8], visit: impl Fn(capnp::any_pointer::Reader<'_>)) {
    let mut gate = FrameGate::new(UNREGISTERED_MESSAGE_BYTES_MAX);
    if gate.handle_bytes(input).is_err() {
        return;
    }
    let mut rest = input;
    while let Ok(message) = capnp::serialize::read_message(&mut rest, RPC_READER_OPTIONS) {
        let Ok(root) = message.get_root::<rpc_capnp::message::Reader<'_>>() else {
            continue;
        };
        let payload = match root.which() {
            Ok(rpc_capnp::message::Call(Ok(call))) => call.get_params(),
            Ok(rpc_capnp::message::Return(Ok(answer))) => match answer.which() {
                Ok(rpc_capnp::return_::Results(results)) => results,
                _ => continue,
            },
            _ => continue,
        };
        if let Ok(payload) = payload {
            visit(payload.get_content());
        }
    }
}

/// Writes with `write` and reads the message back with `read`.
fn reread<T: Owned, R>(write: impl FnOnce(T::Builder<'_>), read: impl FnOnce(T::Reader<'_>) -> R) -> R {
    let mut message = Builder::new_default();
    write(message.init_root());
    read(message.get_root_as_reader().expect("our own message has a root"))
}

#[test]
fn frame_gate() {
    run(&Target {
        name: "frame_gate",
        memory: MESSAGE,
        check: |input| {
            let whole = FrameGate::new(UNREGISTERED_MESSAGE_BYTES_MAX).handle_bytes(input);
            let mut pieces = FrameGate::new(UNREGISTERED_MESSAGE_BYTES_MAX);
            let size = input.first().map_or(1, |&byte| usize::from(byte % 7) + 1);
            let cut = input
                .chunks(size)
                .try_for_each(|piece| pieces.handle_bytes(piece));
            assert_eq!(whole, cut, "cuts do not matter");
            if let Ok(Some(size)) = message_size(input, UNREGISTERED_MESSAGE_BYTES_MAX) {
                assert!(size <= UNREGISTERED_MESSAGE_BYTES_MAX);
            }
            // What the gate lets through the reader may see; the memory bound judges it.
            for_each_payload(input, |_| {});
        },
    });
}

#[test]
fn registration() {
    run(&Target {
        name: "registration",
        memory: MESSAGE,
        check: |input| {
            for_each_payload(input, |content| {
                let params = content.get_as::<<RegisterParams as Owned>::Reader<'_>>();
                if let Ok(Ok(request)) = params.map(RegisterRequest::read) {
                    let again = reread::<RegisterParams, _>(|out| request.write(out), RegisterRequest::read)
                        .expect("our own registration is valid");
                    assert_eq!(again.options, request.options);
                    assert_eq!(again.auth.secret, request.auth.secret);
                    assert_eq!(again.auth.account_tag, request.auth.account_tag);
                    assert_eq!(
                        (again.tunnel_id, again.conn_index),
                        (request.tunnel_id, request.conn_index)
                    );
                }
                let results = content.get_as::<<RegisterResults as Owned>::Reader<'_>>();
                if let Ok(Ok(response)) = results
                    .and_then(|results| results.get_result())
                    .map(RegisterResponse::read)
                {
                    let again = reread::<adit_wire::tunnelrpc_capnp::connection_response::Owned, _>(
                        |out| response.write(out),
                        RegisterResponse::read,
                    );
                    assert_same_answer(&again.expect("our own answer is valid"), &response);
                }
            });
        },
    });
}

/// A cause that was cut inside a character is longer when written again, and is cut again.
fn assert_same_answer(again: &RegisterResponse, first: &RegisterResponse) {
    match (again, first) {
        (RegisterResponse::Refused(again), RegisterResponse::Refused(first)) => {
            assert_eq!(
                (again.retry_after, again.should_retry),
                (first.retry_after, first.should_retry)
            );
            let same = again
                .cause
                .bytes()
                .zip(first.cause.bytes())
                .take_while(|(a, b)| a == b)
                .count();
            assert!(same + 4 > again.cause.len().min(adit_wire::registration::CAUSE_BYTES_MAX));
        }
        _ => assert_eq!(again, first),
    }
}

#[test]
fn config_push() {
    run(&Target {
        name: "config_push",
        memory: MESSAGE,
        check: |input| {
            for_each_payload(input, |content| {
                let params = content.get_as::<<UpdateParams as Owned>::Reader<'_>>();
                if let Ok(Ok(update)) = params.map(ConfigUpdate::read) {
                    let again = reread::<UpdateParams, _>(|out| update.write(out), ConfigUpdate::read);
                    assert_eq!(again.expect("our own update is valid"), update);
                }
                let results = content.get_as::<<UpdateResults as Owned>::Reader<'_>>();
                if let Ok(Ok(applied)) = results
                    .and_then(|results| results.get_result())
                    .map(ConfigApplied::read)
                {
                    let again = reread::<adit_wire::tunnelrpc_capnp::update_configuration_response::Owned, _>(
                        |out| applied.write(out),
                        ConfigApplied::read,
                    );
                    assert_eq!(
                        again.expect("our own answer is valid").latest_version,
                        applied.latest_version
                    );
                }
            });
        },
    });
}
