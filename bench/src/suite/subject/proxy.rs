//! Ordinary reverse proxies, TLS in and TLS out: the bound that a tunnel without network in between is held to.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use adit_tests::certificate::Certificate;
use adit_tests::deadline;
use adit_tests::origin::refused_address;
use adit_tests::process::Process;
use anyhow::{Context as _, Result, bail};

use super::{HOST, Origin, Running, family};
use crate::suite::Bench;
use crate::suite::layout::on;
use crate::suite::options::SubjectName;
use crate::suite::tool;

/// Times a port is chosen anew when somebody else took it first.
const STARTS_MAX: usize = 5;

/// nginx with one worker.
pub(super) fn nginx(bench: &Bench, name: SubjectName, origin: &Origin) -> Result<Running> {
    let folder = tempfile::tempdir_in(bench.folder.path()).context("cannot make a temp dir")?;
    let certificate = Certificate::create(folder.path(), "public", &[HOST]);
    for _ in 0..STARTS_MAX {
        let address = refused_address();
        let file = folder.path().join("nginx.conf");
        let text = nginx_configuration(folder.path(), &certificate, address, origin.tls);
        std::fs::write(&file, text).context("cannot write nginx.conf")?;
        let mut command = tool::program("nginx");
        command
            .arg("-p")
            .arg(folder.path())
            .args(["-e", "stderr", "-c"])
            .arg(&file);
        let mut process = on(&bench.layout.edge, || Process::start("nginx", &mut command))?;
        if listens(&mut process, address) {
            let processes = family("proxy", process.pid());
            let root = certificate.certificate;
            return Ok(Running::new(name, address, root, processes).keeping((process, folder)));
        }
    }
    bail!("nginx did not start");
}

/// Waits until `address` takes connections; false when the process ended before.
fn listens(process: &mut Process, address: SocketAddr) -> bool {
    let up = deadline::within(deadline::STEP, || {
        let ended = process.exited().map(|_| false);
        ended.or_else(|| TcpStream::connect(address).is_ok().then_some(true))
    });
    up.unwrap_or(false)
}

fn nginx_configuration(
    folder: &Path,
    certificate: &Certificate,
    listen: SocketAddr,
    origin: SocketAddr,
) -> String {
    let user = if nix::unistd::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    let dir = folder.display();
    // Bodies pass through memory only, and connections to the upstream are kept: nginx at its best here.
    format!(
        "{user} daemon off; worker_processes 1; pid {dir}/nginx.pid;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 100000000; keepalive_timeout 600s;
  client_max_body_size 0; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_session_cache off;
  upstream origin {{ server {origin}; keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen {listen} ssl http2 backlog=4096;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    location / {{
      proxy_pass https://origin; proxy_http_version 1.1; proxy_ssl_protocols TLSv1.3;
      proxy_set_header Host $host; proxy_set_header Connection '';
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_max_temp_file_size 0; proxy_request_buffering off; proxy_buffers 16 16k; proxy_buffer_size 16k;
    }}
  }}
}}
",
        certificate = certificate.certificate.display(),
        key = certificate.key.display(),
    )
}
