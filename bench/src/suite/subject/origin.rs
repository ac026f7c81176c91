//! The origin behind every subject: this program's own `origin`, plain and with TLS.

use std::net::SocketAddr;

use adit_tests::certificate::Certificate;
use adit_tests::deadline;
use adit_tests::process::Process;
use anyhow::{Context as _, Result};

use super::{HOST, Running};
use crate::suite::Bench;
use crate::suite::layout::on;
use crate::suite::options::SubjectName;
use crate::suite::tool;

/// A running origin.
pub(crate) struct Origin {
    process: Process,
    /// Where it answers plain HTTP.
    pub(crate) plain: SocketAddr,
    /// Where it answers HTTPS.
    pub(crate) tls: SocketAddr,
    certificate: Certificate,
}

impl Origin {
    /// Starts it.
    pub(crate) fn start(bench: &Bench) -> Result<Self> {
        let certificate = Certificate::create(bench.folder.path(), "origin", &[HOST]);
        let mut command = tool::program(&bench.program);
        command
            .args([
                "origin",
                "--listen",
                "127.0.0.1:0",
                "--tls-listen",
                "127.0.0.1:0",
                "--cert",
            ])
            .arg(&certificate.certificate)
            .arg("--key")
            .arg(&certificate.key);
        let mut process = on(&bench.layout.origin, || Process::start("origin", &mut command))?;
        let mut address = |scheme: &str| -> Result<SocketAddr> {
            let start = format!("listening on {scheme}://");
            let line = process.wait_line(&start, deadline::STEP);
            let (_, address) = line
                .split_once(&start)
                .context("the line was found by this part")?;
            address.parse().context("the origin prints an address")
        };
        let (plain, tls) = (address("http")?, address("https")?);
        Ok(Self {
            process,
            plain,
            tls,
            certificate,
        })
    }

    /// Its plain service.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.plain)
    }

    /// Its process, by name and id.
    pub(crate) fn watched(&self) -> (String, u32) {
        ("origin".to_owned(), self.process.pid())
    }

    /// The origin alone, as the subject without anything in between.
    pub(super) fn as_subject(&self, name: SubjectName) -> Running {
        Running {
            http: Some(self.plain),
            ..Running::new(name, self.tls, self.certificate.certificate.clone(), Vec::new())
        }
    }
}
