//! The behaviours of the scripted origin, one function each.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;

use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use super::Script;
use super::request::Request;
use crate::content::Content;

/// Whether the connection serves another request.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Request,
    Close,
}

/// Counts the bytes of a body into a mark while they are read.
struct Counted<'a, R> {
    inner: R,
    script: &'a Script,
    mark: &'a str,
}

/// Serves one connection to its end.
pub(super) fn serve(script: &Script, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let mut before = 0;
    while let Some(request) = Request::read(&mut reader)? {
        script.requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if handle(script, &request, &mut reader, &mut writer, before)? == Next::Close {
            break;
        }
        before += 1;
    }
    // The write side is closed first, and what the peer still sends is read. Otherwise the kernel answers
    // unread bytes with a reset, which could destroy the response on its way.
    writer.shutdown(std::net::Shutdown::Write)?;
    reader
        .get_ref()
        .set_read_timeout(Some(std::time::Duration::from_secs(2)))?;
    io::copy(&mut reader.take(64 << 20), &mut io::sink())?;
    Ok(())
}

fn handle(
    script: &Script,
    request: &Request,
    reader: &mut BufReader<TcpStream>,
    writer: &mut TcpStream,
    before: u64,
) -> io::Result<Next> {
    match request.path.as_str() {
        "/seen" => answer(writer, "200 OK", &request.head)?,
        "/digest" => digest(script, request, reader, writer)?,
        "/bytes" => bytes(script, request, writer)?,
        "/hold" => {
            script.raise(request.query("gate"), 1);
            if !script.pass(request.query("gate")) {
                return Ok(Next::Close);
            }
            answer(writer, "200 OK", "held")?;
        }
        "/drip" => return drip(script, request, writer),
        "/flood" => return flood(script, request, writer),
        "/truncate" => {
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789")?;
            return Ok(Next::Close);
        }
        "/hangup" => return Ok(Next::Close),
        "/refuse-body" => {
            let refusal =
                "HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n";
            writer.write_all(refusal.as_bytes())?;
            return Ok(Next::Close);
        }
        "/trailers" => writer.write_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
              a\r\nwith a sum\r\n0\r\nX-Sum: 7\r\n\r\n",
        )?,
        "/connection" => answer(writer, "200 OK", &before.to_string())?,
        "/ws" | "/ws-first" => return websocket(script, request, reader, writer),
        "/ws-refuse" => answer(writer, "403 Forbidden", "not here")?,
        _ => answer(writer, "404 Not Found", "no such page")?,
    }
    Ok(Next::Request)
}

fn answer(writer: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let whole =
        format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}");
    writer.write_all(whole.as_bytes())
}

fn digest(
    script: &Script,
    request: &Request,
    reader: &mut BufReader<TcpStream>,
    writer: &mut TcpStream,
) -> io::Result<()> {
    let expect = request.header("expect").unwrap_or("none").to_owned();
    let framing = if request.is_chunked() { "chunked" } else { "length" };
    let mut body = Counted {
        inner: request.body(reader),
        script,
        mark: "/digest",
    };
    let (bytes, sha256) = crate::content::sha256_of(&mut body)?;
    answer(
        writer,
        "200 OK",
        &format!("bytes={bytes} sha256={sha256} framing={framing} expect={expect}"),
    )
}

fn bytes(script: &Script, request: &Request, writer: &mut TcpStream) -> io::Result<()> {
    let count = request.number("count");
    let mut content = Content::new(request.number("seed"), count);
    if !request.has("chunked") {
        write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n")?;
        let mut piece = vec![0; 64 * 1024];
        loop {
            let n = content.read(&mut piece)?;
            if n == 0 {
                return Ok(());
            }
            writer.write_all(&piece[..n])?;
            script.raise("/bytes", n as u64);
        }
    }
    write!(writer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let mut piece = vec![0; 16 * 1024];
    loop {
        let n = content.read(&mut piece)?;
        chunk(writer, &piece[..n])?;
        if n == 0 {
            return Ok(());
        }
    }
}

/// Writes one chunk; an empty one ends the body.
fn chunk(writer: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut whole = format!("{:x}\r\n", bytes.len()).into_bytes();
    whole.extend_from_slice(bytes);
    whole.extend_from_slice(b"\r\n");
    writer.write_all(&whole)
}

fn drip(script: &Script, request: &Request, writer: &mut TcpStream) -> io::Result<Next> {
    let gate = request.query("gate");
    let kind = if request.has("sse") {
        "text/event-stream"
    } else {
        "text/plain"
    };
    write!(
        writer,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )?;
    for number in 0..request.number("count") {
        if !script.pass(gate) {
            return Ok(Next::Close);
        }
        let text = if request.has("sse") {
            format!("data: {number}\n\n")
        } else {
            format!("drop {number}\n")
        };
        chunk(writer, text.as_bytes())?;
    }
    chunk(writer, b"")?;
    Ok(Next::Request)
}

fn flood(script: &Script, request: &Request, writer: &mut TcpStream) -> io::Result<Next> {
    write!(writer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let piece = [b'.'; 16 * 1024];
    while chunk(writer, &piece).is_ok() {}
    script.raise(request.query("mark"), 1);
    Ok(Next::Close)
}

fn websocket(
    script: &Script,
    request: &Request,
    reader: &mut BufReader<TcpStream>,
    writer: &mut TcpStream,
) -> io::Result<Next> {
    let Some(key) = request.header("sec-websocket-key") else {
        answer(writer, "400 Bad Request", "no key")?;
        return Ok(Next::Close);
    };
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let protocol = request
        .header("sec-websocket-protocol")
        .and_then(|offer| offer.split(',').next());
    let protocol = protocol
        .map(|name| format!("Sec-WebSocket-Protocol: {}\r\n", name.trim()))
        .unwrap_or_default();
    write!(
        writer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
    )?;
    script.raise(&request.path, 1);
    let early = reader.buffer().to_vec();
    let mut socket = WebSocket::from_partially_read(writer.try_clone()?, early, Role::Server, None);
    if request.path == "/ws-first" {
        socket.send(Message::text("hello")).map_err(io::Error::other)?;
    }
    loop {
        match socket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                socket.send(message).map_err(io::Error::other)?;
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => {}
            Err(_) => {
                script.raise("/ws-end", 1);
                return Ok(Next::Close);
            }
        }
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.script.raise(self.mark, n as u64);
        Ok(n)
    }
}
