//! Heads against captures of the stock connector, against the generated code, and against malice.

use bytes::{BufMut, Bytes, BytesMut};
use capnp::message::{Builder, HeapAllocator};

use super::*;

const REQUEST: &[u8] = include_bytes!("../../fixtures/http_get_request_head.bin");
const RESPONSE: &[u8] = include_bytes!("../../fixtures/http_get_response_head.bin");

fn pairs(list: &[(&str, &str)]) -> Metadata {
    list.iter().copied().collect()
}

fn captured_request() -> ConnectRequest {
    ConnectRequest {
        dest: Bytes::from_static(b"https://app.example.test/hello?x=1"),
        kind: ConnectionType::Http,
        metadata: pairs(&[
            ("HttpMethod", "GET"),
            ("HttpHost", "app.example.test"),
            ("HttpHeader:X-Test", "1"),
            ("HttpHeader:User-Agent", "lab/1"),
        ]),
        takes_interim: false,
    }
}

fn captured_response() -> ConnectResponse {
    ConnectResponse {
        error: Bytes::new(),
        metadata: pairs(&[
            ("HttpStatus", "200"),
            ("HttpHeader:Content-Length", "41"),
            ("HttpHeader:X-Origin", "yes"),
            ("HttpHeader:Set-Cookie", "a=1"),
            ("HttpHeader:Set-Cookie", "b=2"),
            ("HttpHeader:Content-Type", "text/plain"),
        ]),
    }
}

/// Frames segments as a data stream's head.
fn framed(segments: &[&[u8]]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(&DATA_STREAM);
    out.put_slice(&VERSION);
    out.put_u32_le(segments.len() as u32 - 1);
    segments
        .iter()
        .for_each(|segment| out.put_u32_le((segment.len() / WORD_SIZE) as u32));
    if segments.len().is_multiple_of(2) {
        out.put_u32_le(0);
    }
    segments.iter().for_each(|segment| out.put_slice(segment));
    out.freeze()
}

/// Frames one segment of words, each given as its two halves.
fn words(words: &[(u32, u32)]) -> Bytes {
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|(low, high)| [low.to_le_bytes(), high.to_le_bytes()].concat())
        .collect();
    framed(&[&bytes])
}

#[test]
fn captured_heads_decode_and_encode_to_the_same_bytes() {
    let mut buffer = Bytes::from_static(REQUEST);
    assert_eq!(decode_request(&mut buffer).unwrap(), Some(captured_request()));
    assert!(buffer.is_empty());
    assert_eq!(captured_request().encode().unwrap(), REQUEST);

    let mut buffer = Bytes::from_static(RESPONSE);
    assert_eq!(decode_response(&mut buffer).unwrap(), Some(captured_response()));
    assert_eq!(captured_response().encode().unwrap(), RESPONSE);
}

#[test]
fn the_mark_for_interim_answers_is_one_bit_that_can_be_taken_away() {
    let marked = ConnectRequest {
        takes_interim: true,
        ..captured_request()
    };
    let encoded = marked.encode().unwrap();
    let differing = encoded.iter().zip(REQUEST).filter(|(a, b)| a != b).count();
    assert_eq!((encoded.len(), differing), (REQUEST.len(), 1));
    assert_eq!(decode_request(&mut encoded.clone()).unwrap(), Some(marked));
    assert_eq!(without_interim(&encoded), REQUEST);
    // Whoever knows of no mark reads the same request.
    let message = open(&encoded).unwrap();
    let root: schema::connect_request::Reader<'_> = message.get_root().unwrap();
    assert_eq!(root.get_type(), Ok(schema::ConnectionType::Http));
}

#[test]
fn header_entries_are_joined_with_their_prefix() {
    let whole = Entry::new("HttpHeader:X-Test", "1");
    let parts = Entry::header("X-Test", "1");
    let encode = |entry| encode_request("/", ConnectionType::WebSocket, &[entry]).unwrap();
    assert_eq!(encode(whole), encode(parts));
}

#[test]
fn a_head_is_taken_only_when_whole_and_never_more_than_it() {
    for cut in 0..REQUEST.len() {
        let mut buffer = Bytes::from_static(&REQUEST[..cut]);
        assert!(decode_request(&mut buffer).unwrap().is_none(), "at {cut}");
        assert_eq!(buffer, REQUEST[..cut], "nothing is consumed at {cut}");
    }
    // Every alignment of the receive buffer.
    for shift in 0..8 {
        let mut buffer = BytesMut::new();
        buffer.put_bytes(0, shift);
        buffer.put_slice(REQUEST);
        buffer.put_slice(b"body");
        let _ = buffer.split_to(shift);
        let mut buffer = buffer.freeze();
        assert!(decode_request(&mut buffer).unwrap().is_some());
        assert_eq!(buffer, b"body"[..]);
    }
}

#[test]
fn other_signatures_are_refused_from_their_first_byte() {
    for bytes in [
        &b"G"[..],
        b"GET / HTTP/1.1",
        &[0x0A, 0x36, 0xCD, 0x12, 0xA1, 0x3F],
        &[0x52],
    ] {
        assert!(
            matches!(
                decode_request(&mut Bytes::copy_from_slice(bytes)),
                Err(HeadError::Signature)
            ),
            "{bytes:?}"
        );
    }
}

#[test]
fn values_are_raw_bytes_and_empty_ones_survive() {
    let request = ConnectRequest {
        dest: Bytes::new(),
        kind: ConnectionType::Tcp,
        metadata: [
            (&b"HttpHeader:X"[..], &b"caf\xe9"[..]),
            (b"empty", b""),
            (b"", b"12345678"),
        ]
        .into_iter()
        .collect(),
        takes_interim: false,
    };
    let mut buffer = request.encode().unwrap();
    assert_eq!(decode_request(&mut buffer).unwrap(), Some(request));
}

#[test]
fn a_refusal_has_an_error_and_no_metadata() {
    let response = ConnectResponse {
        error: Bytes::from_static(b"dial tcp: refused"),
        metadata: Metadata::default(),
    };
    let mut buffer = response.encode().unwrap();
    assert_eq!(decode_response(&mut buffer).unwrap(), Some(response));
}

#[test]
fn messages_of_several_segments_decode() {
    let mut builder = Builder::new(
        HeapAllocator::new()
            .first_segment_words(8)
            .allocation_strategy(capnp::message::AllocationStrategy::FixedSize),
    );
    let expected = captured_request();
    let mut root: schema::connect_request::Builder<'_> = builder.init_root();
    root.set_dest(capnp::text::Reader(&expected.dest));
    let mut list = root.init_metadata(expected.metadata.len() as u32);
    for (index, (key, value)) in expected.metadata.iter().enumerate() {
        let mut pair = list.reborrow().get(index as u32);
        pair.set_key(capnp::text::Reader(key));
        pair.set_val(capnp::text::Reader(value));
    }
    let segments = builder.get_segments_for_output();
    assert!(segments.len() > 3);
    assert_eq!(decode_request(&mut framed(&segments)).unwrap(), Some(expected));
}

#[test]
fn heads_beyond_the_limits_are_neither_written_nor_read() {
    let long = "x".repeat(HEAD_BYTES_MAX);
    assert!(matches!(
        encode_request(&long, ConnectionType::Http, &[]),
        Err(HeadError::TooLarge(_))
    ));
    let many = vec![Entry::new("k", "v"); METADATA_ENTRIES_MAX + 1];
    assert!(matches!(
        encode_response(b"", &many),
        Err(HeadError::TooManyEntries { count: 513 })
    ));
    let mut most = encode_response(b"", &many[1..]).unwrap();
    assert_eq!(
        decode_response(&mut most).unwrap().unwrap().metadata.len(),
        METADATA_ENTRIES_MAX
    );

    let mut announced = BytesMut::from(&REQUEST[..PREAMBLE_SIZE]);
    announced.put_u32_le(0);
    announced.put_u32_le((HEAD_BYTES_MAX / WORD_SIZE) as u32);
    assert!(matches!(
        decode_request(&mut announced.freeze()),
        Err(HeadError::TooLarge(FrameError::TooLarge { .. }))
    ));
    let mut segments = BytesMut::from(&REQUEST[..PREAMBLE_SIZE]);
    segments.put_u32_le(u32::MAX);
    let refused = decode_request(&mut segments.freeze());
    assert!(matches!(
        refused,
        Err(HeadError::TooLarge(FrameError::TooManySegments { .. }))
    ));
}

#[test]
fn unknown_connection_types_are_refused_by_number() {
    let mut head = words(&[(0, 0x0002_0001), (9, 0), (0, 0), (0, 0)]);
    assert!(matches!(
        decode_request(&mut head),
        Err(HeadError::ConnectionType(9))
    ));
}

#[test]
fn a_destination_that_is_not_text_is_refused() {
    let text = u32::from_le_bytes([0xff, 0xfe, 0, 0]);
    let mut head = words(&[
        (0, 0x0002_0001),
        (0, 0),
        (1 << 2 | 1, 3 << 3 | 2),
        (0, 0),
        (text, 0),
    ]);
    assert!(matches!(
        decode_request(&mut head),
        Err(HeadError::Destination(_))
    ));
}

#[test]
fn hostile_pointers_are_errors() {
    let root = (0, 0x0002_0001);
    let http = (0, 0);
    let cases: [(&str, Vec<(u32, u32)>); 9] = [
        ("no root at all", vec![]),
        (
            "text beyond the segment",
            vec![root, http, (1 << 2 | 1, 0x7fff << 3 | 2), (0, 0), (0, 0)],
        ),
        (
            "text before the segment",
            vec![root, http, (0xffff_f000 | 1, 8 << 3 | 2), (0, 0)],
        ),
        (
            "text without terminating zero",
            vec![root, http, (1 << 2 | 1, 8 << 3 | 2), (0, 0), (u32::MAX, u32::MAX)],
        ),
        (
            "far pointer to a segment that is not there",
            vec![root, http, (2, 7), (0, 0)],
        ),
        (
            "double far pointer onto itself",
            vec![root, http, (2 << 3 | 6, 0), (0, 0)],
        ),
        (
            "list of lists for a text",
            vec![root, http, (1 << 2 | 1, 1 << 3 | 6), (0, 0), (0, 0)],
        ),
        (
            "half a billion empty structs",
            vec![root, http, (0, 0), (1, 7), (0x1fff_ffff << 2, 0)],
        ),
        (
            "elements larger than their list",
            vec![
                root,
                http,
                (0, 0),
                (1, 2 << 3 | 7),
                (5 << 2, 2 << 16),
                (0, 0),
                (0, 0),
            ],
        ),
    ];
    for (what, segment) in cases {
        assert!(decode_request(&mut words(&segment)).is_err(), "{what}");
    }
}

#[test]
fn many_pairs_that_share_one_large_text_exhaust_the_traversal_limit() {
    const PAIRS: u32 = 100;
    const TEXT_WORDS: u32 = 4096;
    let mut segment = vec![
        (0, 0x0002_0001),
        (0, 0),
        (0, 0),
        (1, (2 * PAIRS) << 3 | 7),
        (PAIRS << 2, 2 << 16),
    ];
    for pointer in 0..2 * PAIRS {
        segment.push(((2 * PAIRS - 1 - pointer) << 2 | 1, (TEXT_WORDS * 8) << 3 | 2));
    }
    segment.extend(vec![(0, 0); TEXT_WORDS as usize]);
    assert!(matches!(
        decode_request(&mut words(&segment)),
        Err(HeadError::Message(_))
    ));
}

/// What both readers say of a head; the flat one may leave it to the general one.
fn check_readers_agree(received: &Bytes) -> bool {
    let Ok(Some(head)) = take_head(&mut received.clone()) else {
        return false;
    };
    let head = &head;
    let request = Flat::open(head).and_then(Flat::request);
    let response = Flat::open(head).and_then(Flat::response);
    for (flat, general) in [(&request, request_parts(head)), (&response, response_parts(head))] {
        if let Some(flat) = flat {
            assert_eq!(general.ok().as_ref(), Some(flat), "{head:02x?}");
        }
    }
    request.is_some()
}

#[test]
fn the_flat_reader_reads_usual_heads_and_agrees_with_the_general_one_on_all() {
    let mut read = 0;
    let empty = encode_request("", ConnectionType::WebSocket, &[]).unwrap();
    for head in [
        &captured_request().encode().unwrap(),
        &captured_response().encode().unwrap(),
        &empty,
    ] {
        let is_request = head != RESPONSE;
        assert!(
            !is_request || check_readers_agree(head),
            "a usual head needs no general reader"
        );
        // Every bit, and every byte as a few values that matter in pointers and tags.
        for place in PREAMBLE_SIZE..head.len() {
            let flips = (0..8).map(|bit| head[place] ^ 1 << bit);
            for byte in flips.chain([0, 1, 0x7f, 0xff, head[place].wrapping_add(4)]) {
                let mut mutant = BytesMut::from(&head[..]);
                mutant[place] = byte;
                read += usize::from(check_readers_agree(&mutant.freeze()));
            }
        }
        for cut in (PREAMBLE_SIZE..head.len()).step_by(WORD_SIZE) {
            check_readers_agree(&head.slice(..cut));
        }
    }
    assert!(read > 1_000, "mutants of texts are read as well: {read}");
}
