//! Ordinary reverse proxies, TLS in and TLS out: the bound for a tunnel without a network in between.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use adit_tests::certificate::Certificate;
use adit_tests::deadline;
use adit_tests::origin::free_address;
use adit_tests::process::Process;
use anyhow::{Context as _, Result, bail};

use super::{HOST, Running, Setup, family};
use crate::suite::Bench;
use crate::suite::layout::on;
use crate::suite::options::SubjectName;
use crate::suite::tool;

/// Times a port is chosen anew when somebody else took it first.
const STARTS_MAX: usize = 5;

/// nginx with a worker per core.
pub(super) fn nginx(bench: &Bench, name: SubjectName, setup: &Setup<'_>) -> Result<Running> {
    start(bench, name, setup, |folder, certificate, address| {
        let file = folder.join("nginx.conf");
        let text = nginx_configuration(folder, certificate, address, setup);
        std::fs::write(&file, text).context("cannot write nginx.conf")?;
        let mut command = tool::program("nginx");
        command
            .arg("-p")
            .arg(folder)
            .args(["-e", "stderr", "-c"])
            .arg(&file);
        Ok(command)
    })
}

/// haproxy with a thread per core.
pub(super) fn haproxy(bench: &Bench, name: SubjectName, setup: &Setup<'_>) -> Result<Running> {
    start(bench, name, setup, |folder, certificate, address| {
        let read = |path: &Path| std::fs::read_to_string(path).context("cannot read a certificate");
        let both = read(&certificate.certificate)? + &read(&certificate.key)?;
        std::fs::write(folder.join("both.pem"), both).context("cannot write both.pem")?;
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, haproxy_configuration(folder, address, setup))
            .context("cannot write haproxy.cfg")?;
        let mut command = tool::program("haproxy");
        command.args(["-db", "-f"]).arg(&file);
        Ok(command)
    })
}

fn start(
    bench: &Bench,
    name: SubjectName,
    setup: &Setup<'_>,
    prepare: impl Fn(&Path, &Certificate, SocketAddr) -> Result<Command>,
) -> Result<Running> {
    let folder = tempfile::tempdir_in(bench.folder.path()).context("cannot make a temp dir")?;
    let certificate = Certificate::create(folder.path(), "public", &[HOST]);
    for _ in 0..STARTS_MAX {
        let address = free_address();
        let mut command = prepare(folder.path(), &certificate, address)?;
        let mut process = on(&setup.cpus(&bench.layout).0, || {
            Process::start("proxy", &mut command)
        })?;
        if listens(&mut process, address) {
            let processes = family("proxy", process.pid());
            let root = certificate.certificate;
            return Ok(Running::new(name, address, root, processes).keeping((process, folder)));
        }
    }
    bail!("{name} did not start");
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
    setup: &Setup<'_>,
) -> String {
    let (origin, cores) = (setup.origin.tls, setup.cores);
    let user = if nix::unistd::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    let dir = folder.display();
    // Bodies pass through memory only, and connections to the origin are kept: nginx at its best here.
    format!(
        "{user} daemon off; worker_processes {cores}; pid {dir}/nginx.pid;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 100000000; keepalive_timeout 600s;
  client_max_body_size 0; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_session_cache off;
  map $http_upgrade $upgrade {{ default upgrade; '' ''; }}
  upstream origin {{ server {origin}; keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen {listen} ssl http2 backlog=4096;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    location / {{
      proxy_pass https://origin; proxy_http_version 1.1; proxy_ssl_protocols TLSv1.3;
      proxy_set_header Host $host; proxy_set_header Connection $upgrade; proxy_set_header Upgrade $http_upgrade;
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

fn haproxy_configuration(folder: &Path, listen: SocketAddr, setup: &Setup<'_>) -> String {
    let (origin, cores, dir) = (setup.origin.tls, setup.cores, folder.display());
    format!(
        "global
  nbthread {cores}
  tune.ssl.cachesize 0
  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
defaults
  mode http
  timeout connect 5s
  timeout client 10m
  timeout server 10m
  timeout tunnel 1h
  timeout http-keep-alive 10m
  option forwardfor
frontend public
  bind {listen} ssl crt {dir}/both.pem alpn h2,http/1.1
  default_backend origin
backend origin
  http-reuse always
  server origin {origin} ssl verify none
"
    )
}
