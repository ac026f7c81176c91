//! Registration against captures of the stock connector's control stream, and against bad fields.

use capnp::message::{Builder, HeapAllocator, Reader};
use capnp::serialize::OwnedSegments;
use capnp_rpc::rpc_capnp;

use super::*;
use crate::framing::RPC_READER_OPTIONS;

const CALL: &[u8] = include_bytes!("../../fixtures/control_register_connection_call.bin");
const RETURN: &[u8] = include_bytes!("../../fixtures/control_register_connection_return.bin");
const LOCAL_CONFIG_CALL: &[u8] = include_bytes!("../../fixtures/control_update_local_configuration_call.bin");

type Params<'a> = schema::registration_server::register_connection_params::Reader<'a>;

fn first_message(mut bytes: &[u8]) -> Reader<OwnedSegments> {
    capnp::serialize::read_message(&mut bytes, RPC_READER_OPTIONS).unwrap()
}

/// Parameters of the call that the captured stream holds among other messages.
fn captured_call(mut bytes: &[u8], interface: u64, method: u16) -> Reader<OwnedSegments> {
    while !bytes.is_empty() {
        let message = capnp::serialize::read_message(&mut bytes, RPC_READER_OPTIONS).unwrap();
        let root: rpc_capnp::message::Reader<'_> = message.get_root().unwrap();
        if let Ok(rpc_capnp::message::Call(call)) = root.which() {
            let call = call.unwrap();
            assert_eq!(
                (call.get_interface_id(), call.get_method_id()),
                (interface, method)
            );
            return message;
        }
    }
    panic!("no call in the capture");
}

fn captured_request() -> RegisterRequest {
    let message = captured_call(CALL, 0xf716_95ec_7fe8_5497, 0);
    let root: rpc_capnp::message::Reader<'_> = message.get_root().unwrap();
    let Ok(rpc_capnp::message::Call(Ok(call))) = root.which() else {
        panic!("a call")
    };
    let params: Params<'_> = call.get_params().unwrap().get_content().get_as().unwrap();
    RegisterRequest::read(params).unwrap()
}

/// Writes the request and lets `spoil` change it before it is read again.
fn reread(
    request: &RegisterRequest,
    spoil: impl FnOnce(schema::registration_server::register_connection_params::Builder<'_>),
) -> Result<RegisterRequest, RegistrationError> {
    let mut message = Builder::new(HeapAllocator::new());
    request.write(message.init_root());
    spoil(message.get_root().unwrap());
    RegisterRequest::read(message.get_root_as_reader().unwrap())
}

fn assert_same(a: &RegisterRequest, b: &RegisterRequest) {
    assert_eq!(a.auth.account_tag, b.auth.account_tag);
    assert_eq!(a.auth.secret, b.auth.secret);
    assert_eq!((a.tunnel_id, a.conn_index), (b.tunnel_id, b.conn_index));
    assert_eq!(a.options, b.options);
}

#[test]
fn the_captured_registration_decodes_and_survives_encoding() {
    let request = captured_request();
    assert_eq!(request.auth.account_tag.as_str(), "acct0123");
    assert_eq!(request.auth.secret.as_bytes(), (0..32).collect::<Vec<u8>>());
    assert_eq!(
        request.tunnel_id.to_string(),
        "11111111-2222-3333-4444-555555555555"
    );
    assert_eq!(request.conn_index, ConnIndex(0));
    let client = &request.options.client;
    assert_eq!(
        client.connector_id.to_string(),
        "7213b0a4-5fbc-4c03-a499-85442a56d90d"
    );
    assert_eq!(
        (client.version.as_str(), client.arch.as_str()),
        ("DEV", "linux_amd64")
    );
    assert!(client.has(feature::ALLOW_REMOTE_CONFIG) && client.has(feature::DATAGRAM_V2));
    assert!(!client.has(feature::DATAGRAM_V3));
    assert_eq!(client.features.len(), 5);
    assert_eq!(
        request.options.origin_local_ip.unwrap().to_string(),
        "::ffff:127.0.0.1"
    );
    assert_same(&reread(&request, |_| {}).unwrap(), &request);
}

#[test]
fn the_captured_answer_decodes() {
    let message = first_message(RETURN);
    let root: rpc_capnp::message::Reader<'_> = message.get_root().unwrap();
    let Ok(rpc_capnp::message::Return(Ok(answer))) = root.which() else {
        panic!("a return")
    };
    let Ok(rpc_capnp::return_::Results(Ok(payload))) = answer.which() else {
        panic!("results")
    };
    let results: schema::registration_server::register_connection_results::Reader<'_> =
        payload.get_content().get_as().unwrap();
    let expected = ConnectionDetails {
        id: "81732d20-cf18-4c0d-a252-74517c5b0f97".parse().unwrap(),
        location: "lab01".to_owned(),
        is_remotely_managed: false,
    };
    assert_eq!(
        RegisterResponse::read(results.get_result().unwrap()).unwrap(),
        RegisterResponse::Registered(expected)
    );
}

#[test]
fn the_captured_local_configuration_is_json() {
    let message = captured_call(LOCAL_CONFIG_CALL, 0xf716_95ec_7fe8_5497, 2);
    let root: rpc_capnp::message::Reader<'_> = message.get_root().unwrap();
    let Ok(rpc_capnp::message::Call(Ok(call))) = root.which() else {
        panic!("a call")
    };
    let params: schema::registration_server::update_local_configuration_params::Reader<'_> =
        call.get_params().unwrap().get_content().get_as().unwrap();
    let config: serde_json::Value = serde_json::from_slice(params.get_config().unwrap()).unwrap();
    assert_eq!(config["ingress"][0]["hostname"], "app.example.test");
}

#[test]
fn answers_survive_a_round_trip() {
    let refused = |retry_after| {
        let cause = "Unauthorized: unknown tunnel".to_owned();
        RegisterResponse::Refused(ConnectionError {
            cause,
            retry_after,
            should_retry: true,
        })
    };
    for answer in [
        RegisterResponse::Registered(ConnectionDetails {
            id: "81732d20-cf18-4c0d-a252-74517c5b0f97".parse().unwrap(),
            location: "fra01".to_owned(),
            is_remotely_managed: true,
        }),
        refused(Duration::ZERO),
        refused(Duration::from_millis(1500)),
    ] {
        let mut message = Builder::new_default();
        answer.write(message.init_root());
        assert_eq!(
            RegisterResponse::read(message.get_root_as_reader().unwrap()).unwrap(),
            answer
        );
    }
}

#[test]
fn odd_answers_are_tamed() {
    let mut message = Builder::new_default();
    let response: schema::connection_response::Builder<'_> = message.init_root();
    let mut error = response.init_result().init_error();
    error.set_retry_after(-5);
    error.set_cause(&*"x".repeat(2 * CAUSE_BYTES_MAX));
    let RegisterResponse::Refused(error) =
        RegisterResponse::read(message.get_root_as_reader().unwrap()).unwrap()
    else {
        panic!("a refusal");
    };
    assert_eq!(
        (error.retry_after, error.cause.len()),
        (Duration::ZERO, CAUSE_BYTES_MAX)
    );

    // Details without the 16 bytes of an id.
    let mut message = Builder::new_default();
    let response: schema::connection_response::Builder<'_> = message.init_root();
    response.init_result().init_connection_details();
    let read = RegisterResponse::read(message.get_root_as_reader().unwrap());
    assert!(matches!(read, Err(RegistrationError::Id { field: "uuid", .. })));
}

#[test]
fn malformed_fields_are_refused_by_name() {
    let request = captured_request();
    let long = "x".repeat(LABEL_BYTES_MAX + 1);
    let error = reread(&request, |mut params| params.set_tunnel_id(&[0; 15])).unwrap_err();
    assert!(matches!(
        error,
        RegistrationError::Id {
            field: "tunnelId",
            source: IdError::Size { size: 15 }
        }
    ));

    let error = reread(&request, |params| {
        params.get_auth().unwrap().set_tunnel_secret(&[0; 257])
    })
    .unwrap_err();
    assert!(matches!(
        error,
        RegistrationError::TooLarge {
            field: "tunnelSecret",
            size: 257,
            ..
        }
    ));

    let error = reread(&request, |params| params.get_auth().unwrap().set_account_tag("")).unwrap_err();
    assert!(matches!(
        error,
        RegistrationError::Id {
            field: "accountTag",
            ..
        }
    ));

    let client = |params: schema::registration_server::register_connection_params::Builder<'_>,
                  long: &str| {
        params
            .get_options()
            .unwrap()
            .get_client()
            .unwrap()
            .set_version(long);
    };
    let error = reread(&request, |params| client(params, &long)).unwrap_err();
    assert!(matches!(
        error,
        RegistrationError::TooLarge { field: "version", .. }
    ));

    let error = reread(&request, |params| {
        params
            .get_options()
            .unwrap()
            .get_client()
            .unwrap()
            .set_arch(capnp::text::Reader(b"\xff"));
    });
    assert!(matches!(error, Err(RegistrationError::Text { field: "arch" })));

    let error = reread(&request, |params| {
        params
            .get_options()
            .unwrap()
            .get_client()
            .unwrap()
            .init_features(FEATURES_MAX as u32 + 1);
    });
    assert!(matches!(
        error,
        Err(RegistrationError::TooLarge {
            field: "features",
            size: 65,
            ..
        })
    ));
}

#[test]
fn an_empty_message_is_refused_and_an_odd_address_dropped() {
    let mut message = Builder::new_default();
    message.init_root::<schema::registration_server::register_connection_params::Builder<'_>>();
    assert!(RegisterRequest::read(message.get_root_as_reader().unwrap()).is_err());

    let request = reread(&captured_request(), |params| {
        params.get_options().unwrap().set_origin_local_ip(&[1, 2, 3]);
    });
    assert_eq!(request.unwrap().options.origin_local_ip, None);
}
