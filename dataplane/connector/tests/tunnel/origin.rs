//! An HTTP origin on plain threads: says hello, echoes bodies, and echoes bytes after an upgrade.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Starts it; its threads end with the test.
pub(crate) fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            // A connection that breaks off is a case of the test.
            thread::spawn(move || serve(stream).ok());
        }
    });
    address
}

fn serve(stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let path = head[0].split(' ').nth(1).unwrap().to_owned();
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        match path.as_str() {
            "/echo" => answer(&mut writer, &body)?,
            "/host" => answer(&mut writer, header(&head, "host").unwrap().as_bytes())?,
            "/ws" => {
                assert_eq!(header(&head, "upgrade").as_deref(), Some("websocket"));
                let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                                Connection: Upgrade\r\n\r\nfirst:";
                writer.write_all(switched.as_bytes())?;
                std::io::copy(&mut reader, &mut writer)?;
                return Ok(());
            }
            // Promises more than it gives.
            "/broken" => {
                writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")?;
                return Ok(());
            }
            _ => answer(&mut writer, b"hello")?,
        }
    }
}

fn answer(writer: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Origin: yes\r\nKeep-Alive: timeout=5\r\n\r\n",
        body.len()
    );
    writer.write_all(&[head.as_bytes(), body].concat())
}

fn header(head: &[String], name: &str) -> Option<String> {
    head.iter().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}
