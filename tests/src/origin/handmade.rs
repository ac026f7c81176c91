//! An origin whose every byte a test writes: for answers that no server of repute would give.
//!
//! The test's function gets each connection and speaks in heads and raw bytes. The heads it read are kept.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A running origin.
#[derive(Debug)]
pub struct Handmade {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

/// One connection to it.
#[derive(Debug)]
pub struct Talk {
    reader: BufReader<TcpStream>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Handmade {
    /// Starts one on a port of its own.
    ///
    /// # Panics
    /// When no loopback port can be had.
    pub fn start(serve: impl Fn(&mut Talk) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let (serve, seen) = (Arc::new(serve), Arc::clone(&heads));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (serve, heads) = (Arc::clone(&serve), Arc::clone(&seen));
                thread::spawn(move || {
                    let mut talk = Talk {
                        reader: BufReader::new(stream),
                        heads,
                    };
                    // Whoever turns away from it is seen by the test, not here.
                    serve(&mut talk).and_then(|()| talk.leave()).ok();
                });
            }
        });
        Self { address, heads }
    }

    /// One that answers every request with the bytes that `answer` has for its head.
    pub fn answering(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(move |talk| {
            while let Some(head) = talk.head()? {
                talk.send(answer(&head))?;
            }
            Ok(())
        })
    }

    /// Its service as an ingress rule names it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads that came, without those of the wait for the site.
    pub fn heads(&self) -> Vec<String> {
        let heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads
            .iter()
            .filter(|head| !head.starts_with("GET / "))
            .cloned()
            .collect()
    }
}

impl Talk {
    /// Reads a head with its empty line; `None` when the connection has ended before one.
    ///
    /// # Errors
    /// What the socket says.
    pub fn head(&mut self) -> io::Result<Option<String>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.reader.read_until(b'\n', &mut head)? == 0 {
                return Ok(None);
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads.push(head.clone());
        Ok(Some(head))
    }

    /// Reads so many bytes.
    ///
    /// # Errors
    /// What the socket says, its end included.
    pub fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// What the socket says.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    /// Returns what comes, until the other side ends.
    ///
    /// # Errors
    /// What the socket says.
    pub fn echo(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.reader.fill_buf()?.to_vec();
            if bytes.is_empty() {
                return Ok(());
            }
            self.reader.consume(bytes.len());
            self.send(&bytes)?;
        }
    }

    /// Ends without a reset, which unread bytes would cause.
    fn leave(&mut self) -> io::Result<()> {
        let stream = self.reader.get_mut();
        stream.shutdown(Shutdown::Write)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        io::copy(&mut stream.take(64 << 20), &mut io::sink())?;
        Ok(())
    }
}
