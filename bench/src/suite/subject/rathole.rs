//! rathole: a tunnel that forwards TCP, with its own encryption or with TLS.

use std::net::SocketAddr;
use std::path::Path;

use adit_tests::certificate::Certificate;
use adit_tests::deadline;
use adit_tests::origin::free_address;
use adit_tests::process::Process;
use anyhow::{Context as _, Result, ensure};

use super::{Running, Setup, is_served};
use crate::suite::Bench;
use crate::suite::layout::on;
use crate::suite::options::SubjectName;
use crate::suite::tool;

/// How its two processes speak with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// The Noise protocol, in the pattern it uses when none is named.
    Noise,
    /// TLS.
    Tls,
}

/// The name in the certificate of its server.
const SERVER_NAME: &str = "localhost";

const PASSWORD: &str = "bench";

/// Server in the place of the edge, client in that of the connector.
pub(super) fn start(
    bench: &Bench,
    name: SubjectName,
    transport: Transport,
    setup: &Setup<'_>,
) -> Result<Running> {
    let peers = bench.settings.peers.as_ref().context("needs --peers")?;
    let program = peers.join("bin/rathole");
    ensure!(program.is_file(), "{} is not there", program.display());
    let folder = tempfile::tempdir_in(bench.folder.path()).context("cannot make a temp dir")?;
    let (tunnel, public) = (free_address(), free_address());
    let (server, client) = match transport {
        Transport::Noise => noise(&program, bench)?,
        Transport::Tls => tls(folder.path(), bench)?,
    };
    let server = format!(
        "[server]\nbind_addr = \"{tunnel}\"\ndefault_token = \"bench\"\n\
         [server.services.raw]\nbind_addr = \"{public}\"\nnodelay = true\n{server}"
    );
    let client = format!(
        "[client]\nremote_addr = \"{tunnel}\"\ndefault_token = \"bench\"\n\
         [client.services.raw]\nlocal_addr = \"{}\"\nnodelay = true\n{client}",
        setup.origin.plain
    );
    let launch = |role: &str, text: String, cpus: &[usize]| -> Result<Process> {
        let file = folder.path().join(format!("{role}.toml"));
        std::fs::write(&file, text).context("cannot write a configuration")?;
        let mut command = tool::program(&program);
        command.env("RUST_LOG", "warn").arg(format!("--{role}")).arg(file);
        on(cpus, || Process::start(role, &mut command))
    };
    let (edge_cpus, connector_cpus) = setup.cpus(&bench.layout);
    let server = launch("server", server, &edge_cpus)?;
    let client = launch("client", client, &connector_cpus)?;
    wait_served(public)?;
    let processes = vec![
        ("server".to_owned(), server.pid()),
        ("client".to_owned(), client.pid()),
    ];
    let root = folder.path().to_owned();
    Ok(Running {
        http: Some(public),
        ..Running::new(name, public, root, processes)
    }
    .keeping((client, server, folder)))
}

/// Waits until a request through the tunnel is answered.
fn wait_served(public: SocketAddr) -> Result<()> {
    let up = deadline::within(deadline::STEP, || is_served(public).then_some(()));
    up.context("it does not serve")
}

/// The transport of server and client, with a fresh key pair.
fn noise(program: &Path, bench: &Bench) -> Result<(String, String)> {
    let mut command = tool::program(program);
    let text = tool::run(command.arg("--genkey"), &bench.layout.all, deadline::STEP)?;
    let (private, public) = key_pair(&text).context("its --genkey says something else than we know")?;
    let transport = |role: &str, key: &str| {
        format!(
            "[{role}.transport]\ntype = \"noise\"\n[{role}.transport.tcp]\nnodelay = true\n\
             [{role}.transport.noise]\n{key}\n"
        )
    };
    Ok((
        transport("server", &format!("local_private_key = \"{private}\"")),
        transport("client", &format!("remote_public_key = \"{public}\"")),
    ))
}

/// The private and the public key that `--genkey` prints, each on the line below its title.
fn key_pair(text: &str) -> Option<(String, String)> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let below = |title: &str| {
        let at = lines.iter().position(|line| line.starts_with(title))?;
        lines.get(at + 1).map(|line| (*line).to_owned())
    };
    below("Private Key").zip(below("Public Key"))
}

fn tls(folder: &Path, bench: &Bench) -> Result<(String, String)> {
    let certificate = Certificate::create(folder, "tunnel", &[SERVER_NAME]);
    let identity = folder.join("identity.pfx");
    let mut command = tool::program("openssl");
    command.args([
        "pkcs12",
        "-export",
        "-passout",
        &format!("pass:{PASSWORD}"),
        "-in",
    ]);
    command
        .arg(&certificate.certificate)
        .arg("-inkey")
        .arg(&certificate.key);
    command.arg("-out").arg(&identity);
    tool::run(&mut command, &bench.layout.all, deadline::STEP)?;
    let server = format!(
        "[server.transport]\ntype = \"tls\"\n[server.transport.tcp]\nnodelay = true\n\
         [server.transport.tls]\npkcs12 = \"{}\"\npkcs12_password = \"{PASSWORD}\"\n",
        identity.display()
    );
    let client = format!(
        "[client.transport]\ntype = \"tls\"\n[client.transport.tcp]\nnodelay = true\n\
         [client.transport.tls]\ntrusted_root = \"{}\"\nhostname = \"{SERVER_NAME}\"\n",
        certificate.certificate.display()
    );
    Ok((server, client))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_below_their_titles() {
        let text = "Private Key:\nabc=\n\nPublic Key:\ndef=\n";
        assert_eq!(key_pair(text), Some(("abc=".to_owned(), "def=".to_owned())));
        assert_eq!(key_pair("Private Key:\nabc=\n"), None);
    }
}
