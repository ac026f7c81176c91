//! A real nginx as an origin, with a generated configuration, in a temp dir of its own.
//!
//! | Path | Answers |
//! |---|---|
//! | `/FILE` | the file from [`Nginx::root`]; PUT writes it |
//! | `/tell` | method, URI, Host and the headers the edge and the connector add, one per line |
//! | `/discard` | reads any body, tells its framing |
//! | `/headers` | a response with many headers, one of them long |
//! | `/status/NNN` | that status for 204, 304, 404, 500 |
//! | `/compressed.txt` | gzip when asked for |
//! | `/h` | 1 KiB, for load |

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::certificate::Certificate;
use crate::deadline;
use crate::process::{Process, command};

/// Times a port is chosen anew when somebody else took it before nginx did.
const STARTS_MAX: usize = 5;

/// Bytes of the page for load tests.
pub const SMALL_PAGE_BYTES: usize = 1024;

/// Bytes of the long response header of `/headers`.
pub const LONG_HEADER_BYTES: usize = 3000;

/// Number of the short response headers of `/headers`.
pub const SHORT_HEADERS: usize = 60;

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    plain: SocketAddr,
    tls: SocketAddr,
    special: Special,
    certificate: Certificate,
    folder: TempDir,
}

/// Listeners that speak something else than HTTP/1.1 from the first byte on.
#[derive(Debug, Clone, Copy)]
struct Special {
    tls_http2: SocketAddr,
    plain_http2: SocketAddr,
    proxied: SocketAddr,
    proxied_tls: SocketAddr,
}

impl Nginx {
    /// Starts it on ports of its own: plain, TLS (for `origin.test`), both with HTTP/2, behind the PROXY
    /// protocol, and a Unix socket.
    ///
    /// # Panics
    /// When nginx is missing or does not start.
    #[track_caller]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temp dir");
        let root = folder.path().join("www");
        std::fs::create_dir(&root).expect("a fresh folder");
        std::fs::write(root.join("index.html"), "served by nginx\n").expect("a fresh file");
        std::fs::write(root.join("h"), "x".repeat(SMALL_PAGE_BYTES)).expect("a fresh file");
        std::fs::write(
            root.join("compressed.txt"),
            "the same words again and again\n".repeat(400),
        )
        .expect("a fresh file");
        let certificate = Certificate::create(folder.path(), "origin", &["origin.test"]);
        let mut last = String::new();
        for _ in 0..STARTS_MAX {
            let (plain, tls) = (super::free_address(), super::free_address());
            let special = Special {
                tls_http2: super::free_address(),
                plain_http2: super::free_address(),
                proxied: super::free_address(),
                proxied_tls: super::free_address(),
            };
            let file = folder.path().join("nginx.conf");
            let text = configuration(folder.path(), &certificate, plain, tls, special);
            std::fs::write(&file, text).expect("a fresh file");
            let mut process = launch(folder.path());
            let listens = deadline::until("nginx to listen or end", deadline::STEP, || {
                // Written once all ports are bound: while one is taken, those before it answer already.
                let is_up = folder.path().join("nginx.pid").exists()
                    && TcpStream::connect(plain).is_ok()
                    && TcpStream::connect(tls).is_ok();
                process.exited().map(|_| false).or_else(|| is_up.then_some(true))
            });
            if listens {
                return Self {
                    process,
                    plain,
                    tls,
                    special,
                    certificate,
                    folder,
                };
            }
            last = process.log();
        }
        panic!("nginx did not start; is it installed? {last}");
    }

    /// Where it answers plain HTTP.
    pub fn address(&self) -> SocketAddr {
        self.plain
    }

    /// Its plain HTTP service as an ingress rule names it.
    pub fn url(&self) -> String {
        format!("http://{}", self.plain)
    }

    /// Its HTTPS service as an ingress rule names it.
    pub fn tls_url(&self) -> String {
        format!("https://{}", self.tls)
    }

    /// Its service with HTTP/2 over TLS.
    pub fn tls_http2_url(&self) -> String {
        format!("https://{}", self.special.tls_http2)
    }

    /// Its service with HTTP/2 and nothing else, without TLS.
    pub fn plain_http2_url(&self) -> String {
        format!("http://{}", self.special.plain_http2)
    }

    /// Its service that wants a PROXY header, of either version, on each connection.
    pub fn proxied_url(&self) -> String {
        format!("http://{}", self.special.proxied)
    }

    /// Where it answers HTTPS.
    pub fn tls_address(&self) -> SocketAddr {
        self.tls
    }

    /// Where it wants a PROXY header, of either version, before HTTP.
    pub fn proxied(&self) -> SocketAddr {
        self.special.proxied
    }

    /// Where it wants one before HTTPS.
    pub fn proxied_tls(&self) -> SocketAddr {
        self.special.proxied_tls
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("nginx.sock")
    }

    /// The certificate of its TLS listener, valid for `origin.test`.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The folder it serves and PUTs into.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("www")
    }

    /// Requests it has answered, one line each: status, method, URI, connection number, request number on it.
    pub fn access_log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Ends it.
    pub fn stop(mut self) {
        self.process.terminate(Duration::from_secs(10));
    }

    /// Ends it at once; [`Self::start_again`] brings it back.
    pub fn kill(&mut self) {
        // Its worker dies with its master in order; killed, it would go on.
        self.process.terminate(Duration::from_secs(10));
    }

    /// Starts it again where it was.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start_again(&mut self) {
        // The socket of one that was ended in a hurry is in the way.
        std::fs::remove_file(self.socket()).ok();
        self.process = launch(self.folder.path());
        deadline::until_true("nginx to listen again", deadline::STEP, || {
            TcpStream::connect(self.plain).is_ok()
        });
    }
}

/// Starts nginx with the configuration in `folder`.
fn launch(folder: &Path) -> Process {
    let mut nginx = command("nginx");
    nginx.arg("-p").arg(folder).args(["-e", "stderr", "-c"]);
    nginx.arg(folder.join("nginx.conf"));
    Process::start("nginx", &mut nginx)
}

fn configuration(
    folder: &Path,
    certificate: &Certificate,
    plain: SocketAddr,
    tls: SocketAddr,
    special: Special,
) -> String {
    let mut text = String::new();
    if nix::unistd::geteuid().is_root() {
        // The workers keep the rights of the test, which owns the temp dir.
        text.push_str("user root;\n");
    }
    let dir = folder.display();
    let mut headers = format!("add_header X-Long {} always;", "v".repeat(LONG_HEADER_BYTES));
    for number in 0..SHORT_HEADERS {
        write!(headers, " add_header X-Short-{number} value-{number} always;").expect("a string grows");
    }
    write!(
        text,
        "daemon off; worker_processes 1; pid {dir}/nginx.pid;
events {{ worker_connections 2048; }}
http {{
  default_type text/plain; log_format short '$status $request_method $request_uri $connection $connection_requests';
  access_log {dir}/access.log short; sendfile on; tcp_nodelay on; keepalive_requests 1000000; keepalive_timeout 60s;
  client_max_body_size 0; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  large_client_header_buffers 16 64k; gzip_types text/plain; gzip_min_length 100; gzip_http_version 1.0;
  server {{
    listen {plain} backlog=1024; listen {tls} ssl; listen unix:{dir}/nginx.sock;
    listen {tls_http2} ssl http2; listen {plain_http2} http2; listen {proxied} proxy_protocol;
    listen {proxied_tls} ssl proxy_protocol;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    root {dir}/www; dav_methods PUT DELETE; create_full_put_path on;
    location = /tell {{ return 200 '{tell}'; }}
    location = /discard {{ proxy_pass http://{plain}/framing; proxy_set_header X-Length $http_content_length;
      proxy_set_header X-Transfer $http_transfer_encoding; }}
    location = /framing {{ return 200 'length=$http_x_length transfer=$http_x_transfer received=$content_length'; }}
    location = /headers {{ {headers} return 200 'headers'; }}
    location = /compressed.txt {{ gzip on; }}
    location = /status/204 {{ return 204; }} location = /status/304 {{ return 304; }}
    location = /status/404 {{ return 404; }} location = /status/500 {{ return 500; }}
  }}
}}
",
        tls_http2 = special.tls_http2,
        plain_http2 = special.plain_http2,
        proxied = special.proxied,
        proxied_tls = special.proxied_tls,
        certificate = certificate.certificate.display(),
        key = certificate.key.display(),
        tell = TELL.map(|(name, value)| format!("{name}: {value}\n")).concat(),
    )
    .expect("a string grows");
    text
}

/// Lines of `/tell`.
const TELL: [(&str, &str); 18] = [
    ("method", "$request_method"),
    ("uri", "$request_uri"),
    ("host", "$http_host"),
    ("scheme", "$scheme"),
    ("sni", "$ssl_server_name"),
    ("x-forwarded-for", "$http_x_forwarded_for"),
    ("x-forwarded-proto", "$http_x_forwarded_proto"),
    ("x-forwarded-host", "$http_x_forwarded_host"),
    ("cf-connecting-ip", "$http_cf_connecting_ip"),
    ("cf-ray", "$http_cf_ray"),
    ("cf-visitor", "$http_cf_visitor"),
    ("connection", "$http_connection"),
    ("cookie", "$http_cookie"),
    ("protocol", "$server_protocol"),
    ("connection-number", "$connection"),
    ("proxied-for", "$proxy_protocol_addr"),
    ("proxied-port", "$proxy_protocol_port"),
    ("x-rule", "$http_x_rule"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visitor::curl::Curl;

    #[test]
    fn it_serves_files_and_tells_what_it_was_asked() {
        let nginx = Nginx::start();
        let page = Curl::get(&format!("{}/", nginx.url())).run();
        assert_eq!((page.status, page.text().as_str()), (200, "served by nginx\n"));
        let told = Curl::get(&format!("{}/tell?x=1", nginx.url())).run().text();
        assert!(told.contains("uri: /tell?x=1\n"), "{told}");
        assert_eq!(nginx.access_log().len(), 2);
    }
}
