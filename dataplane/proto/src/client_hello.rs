//! Finds the server's name in the first bytes of a TLS client, without being a TLS server.
//!
//! ```text
//! record   | type 22 | version 2 | length u16 | fragment …        one message may take several
//! message  | type 1 | length u24 | version 2 | random 32 | session id | suites | compressions | extensions
//! SNI      | type 0 | length u16 | list length u16 | name type 0 | length u16 | name
//! ```
//! Reads in place. Only a message that is cut into several records is joined first, in at most
//! [`HELLO_BYTES_MAX`]. A message that cannot be read has no name here. Whoever then speaks TLS with the
//! client reports what is wrong with it.
//!
//! Source: RFC 8446 §4.1.2 and §5.1, RFC 6066 §3.

use std::borrow::Cow;

/// Most bytes looked at. Clients with post-quantum key shares send 2 KiB; tickets may make it some more.
pub const HELLO_BYTES_MAX: usize = 16 << 10;

const RECORD_HEAD_BYTES: usize = 5;
const RECORD_HANDSHAKE: u8 = 22;
const MESSAGE_HEAD_BYTES: usize = 4;
const MESSAGE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const NAME_HOST: u8 = 0;
const VERSION_AND_RANDOM_BYTES: usize = 2 + 32;

/// What the first bytes of a client say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello<'a> {
    /// More bytes are needed.
    Unfinished,
    /// It asks for this name, as it wrote it.
    Named(Cow<'a, str>),
    /// It asks for no name, or says nothing that can be read.
    Nameless,
}

/// Reads the beginning of a connection.
pub fn read(bytes: &[u8]) -> Hello<'_> {
    match message(bytes) {
        Some(Message::Whole(message)) => match server_name(message) {
            Some(name) => Hello::Named(Cow::Borrowed(name)),
            None => Hello::Nameless,
        },
        Some(Message::Joined(message)) => match server_name(&message) {
            Some(name) => Hello::Named(Cow::Owned(name.to_owned())),
            None => Hello::Nameless,
        },
        Some(Message::Unfinished) if bytes.len() < HELLO_BYTES_MAX => Hello::Unfinished,
        Some(Message::Unfinished) | None => Hello::Nameless,
    }
}

/// The body of the ClientHello.
enum Message<'a> {
    Unfinished,
    Whole(&'a [u8]),
    Joined(Vec<u8>),
}

/// `None` for what is no ClientHello.
fn message(bytes: &[u8]) -> Option<Message<'_>> {
    let mut rest = bytes;
    let mut joined: Vec<u8> = Vec::new();
    loop {
        let Some((head, after)) = rest.split_first_chunk::<RECORD_HEAD_BYTES>() else {
            // Told from other protocols by the first byte, which is soon there.
            let is_tls = rest.first().is_none_or(|first| *first == RECORD_HANDSHAKE);
            return is_tls.then_some(Message::Unfinished);
        };
        let [kind, major, _, high, low] = *head;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != RECORD_HANDSHAKE || major != 3 || length == 0 {
            return None;
        }
        let fragment = after.get(..length.min(after.len()))?;
        if joined.is_empty()
            && let Some(wanted) = body_size(fragment)?
            && let Some(body) = fragment.get(MESSAGE_HEAD_BYTES..MESSAGE_HEAD_BYTES + wanted)
        {
            return Some(Message::Whole(body));
        }
        if fragment.len() < length {
            // A record that is not whole is not joined: the next look would begin again.
            return Some(Message::Unfinished);
        }
        joined.extend_from_slice(fragment);
        if let Some(wanted) = body_size(&joined)?
            && joined.len() >= MESSAGE_HEAD_BYTES + wanted
        {
            joined.truncate(MESSAGE_HEAD_BYTES + wanted);
            joined.drain(..MESSAGE_HEAD_BYTES);
            return Some(Message::Joined(joined));
        }
        rest = after.get(length..)?;
    }
}

/// Returns the size of the body behind the head of a message, or `Some(None)` while the head is incomplete.
/// Returns `None` if the message is no ClientHello, or larger than what is looked at.
fn body_size(message: &[u8]) -> Option<Option<usize>> {
    match *message {
        [MESSAGE_CLIENT_HELLO, a, b, c, ..] => {
            let size = u32::from_be_bytes([0, a, b, c]);
            let size = usize::try_from(size).ok()?;
            (size <= HELLO_BYTES_MAX).then_some(Some(size))
        }
        [] | [MESSAGE_CLIENT_HELLO, ..] => Some(None),
        _ => None,
    }
}

fn server_name(body: &[u8]) -> Option<&str> {
    let rest = body.get(VERSION_AND_RANDOM_BYTES..)?;
    let (_session, rest) = short_vector(rest)?;
    let (_suites, rest) = long_vector(rest)?;
    let (_compressions, rest) = short_vector(rest)?;
    let (mut extensions, _) = long_vector(rest)?;
    while let Some((kind, rest)) = extensions.split_first_chunk::<2>() {
        let (content, rest) = long_vector(rest)?;
        if u16::from_be_bytes(*kind) == EXTENSION_SERVER_NAME {
            return host_name(content);
        }
        extensions = rest;
    }
    None
}

fn host_name(content: &[u8]) -> Option<&str> {
    let (mut names, _) = long_vector(content)?;
    while let Some((kind, rest)) = names.split_first() {
        let (name, rest) = long_vector(rest)?;
        if *kind == NAME_HOST {
            return std::str::from_utf8(name).ok();
        }
        names = rest;
    }
    None
}

/// Bytes with their number before them in one byte, and what follows them.
fn short_vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// Bytes with their number before them in two bytes, and what follows them.
fn long_vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [kind.to_be_bytes().to_vec(), vector(content)].concat()
    }

    /// A message with these extensions.
    fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = [&[3, 3][..], &[7; 32], &[32], &[9; 32]].concat();
        body.extend(vector(&[0x13, 0x01, 0x13, 0x02]));
        body.extend([1, 0]);
        body.extend(vector(&extensions.concat()));
        let size = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1], &size[1..], &body].concat()
    }

    fn names(list: &[(u8, &str)]) -> Vec<u8> {
        let entries: Vec<u8> = list
            .iter()
            .flat_map(|(kind, name)| [vec![*kind], vector(name.as_bytes())].concat())
            .collect();
        extension(0, &vector(&entries))
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record = |part: &[u8]| [vec![22, 3, 1], vector(part)].concat();
        message.chunks(size).flat_map(record).collect()
    }

    fn check(bytes: &[u8], wanted: Option<&str>) {
        let found = match read(bytes) {
            Hello::Named(name) => Some(name.into_owned()),
            Hello::Nameless => None,
            Hello::Unfinished => panic!("{} bytes are unfinished", bytes.len()),
        };
        assert_eq!(found.as_deref(), wanted);
    }

    #[test]
    fn a_name_is_found_however_the_message_is_cut() {
        let other = extension(10, &[0, 2, 0, 29]);
        let message = hello(&[other.clone(), names(&[(0, "a.example")]), other]);
        for size in [1, 2, 3, 4, 5, 40, 100, message.len()] {
            let bytes = records(&message, size);
            check(&bytes, Some("a.example"));
            for count in 0..bytes.len() {
                assert_eq!(read(&bytes[..count]), Hello::Unfinished, "{count} of {size}");
            }
            // What follows is no business of ours.
            check(
                &[&bytes[..], b"\x14\x03\x03\0\x01\x01"].concat(),
                Some("a.example"),
            );
        }
        let whole = records(&message, message.len());
        assert!(
            matches!(read(&whole), Hello::Named(Cow::Borrowed(_))),
            "nothing is copied"
        );
    }

    #[test]
    fn what_has_no_name_is_said_to_have_none() {
        let record = |message: &[u8]| records(message, 16_000);
        check(&record(&hello(&[])), None);
        check(&record(&hello(&[names(&[])])), None);
        check(
            &record(&hello(&[names(&[(1, "x"), (0, "b.example")])])),
            Some("b.example"),
        );
        check(b"GET / HTTP/1.1\r\n", None);
        check(b"\x80\x2e\x01\x03\x01", None);
        check(b"\x16\x02\x00\x00\x01\x01", None);
        check(b"\x16\x03\x01\x00\x00", None);
        check(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", None);
        check(b"\x16\x03\x01\xff\xff\x01\xff\xff\xff", None);
        let mut broken = hello(&[names(&[(0, "a.example")])]);
        let size = broken.len();
        broken.truncate(size - 3);
        broken[3] -= 3;
        check(&record(&broken), None);
        let mut latin = hello(&[names(&[(0, "a.example")])]);
        latin[size - 1] = 0xff;
        check(&record(&latin), None);
    }

    #[test]
    fn a_message_that_never_ends_is_given_up() {
        let mut endless = vec![1, 0, 0x3f, 0xff];
        endless.resize(HELLO_BYTES_MAX, 0);
        check(&records(&endless, 1), None);
        let tiny = records(&endless, 1);
        assert_eq!(read(&tiny[..HELLO_BYTES_MAX - 1]), Hello::Unfinished);
    }
}
