//! `tunnel diag`: collects what a running connector of this machine tells of itself into a zip file.
//!
//! | file | from |
//! |---|---|
//! | `systeminformation.json`, `tunnelstate.json` | `/diag/system`, `/diag/tunnel` |
//! | `cli-configuration.json` | `/diag/configuration` |
//! | `configuration.json`, `metrics.txt` | `/config`, `/metrics` |
//! | `cloudflared_logs.txt` | the end of the connector's log file |
//! | `task-result.json` | what of all this succeeded, and what is not collected |
//!
//! Source: cloudflared `diagnostic/*.go`.

use std::fs::File;
use std::io::{Cursor, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use ::http::Method;
use anyhow::{Context as _, anyhow, ensure};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::args::leaf::Chosen;
use crate::args::lookup::Lookup;
use crate::failure::Failure;
use crate::output;
use crate::output::time::to_seconds;
use crate::rest::http::{HttpClient, Request};

/// Where connectors listen that nobody told otherwise.
const DEFAULT_PORTS: std::ops::RangeInclusive<u16> = 20241..=20245;

/// How much of the end of a log file is taken.
const LOG_BYTES_MAX: u64 = 10 << 20;

/// What is asked of the connector: file, path, and the flag that leaves it out.
const ANSWERS: [(&str, &str, Option<&str>); 5] = [
    ("systeminformation.json", "/diag/system", Some("no-diag-system")),
    ("metrics.txt", "/metrics", Some("no-diag-metrics")),
    ("tunnelstate.json", "/diag/tunnel", None),
    ("cli-configuration.json", "/diag/configuration", None),
    ("configuration.json", "/config", None),
];

/// What cloudflared collects and this does not, with the flag that leaves it out there and why.
const ABSENT: [(&str, &str, &str); 4] = [
    (
        "heap.pprof",
        "no-diag-runtime",
        "this executable has no such profile",
    ),
    (
        "goroutine.pprof",
        "no-diag-runtime",
        "this executable has no such profile",
    ),
    (
        "network.json",
        "no-diag-network",
        "routes to edges are not traced",
    ),
    ("prechecks.json", "no-diag-network", "there are no pre-checks"),
];

/// A connector that answers.
struct Found {
    address: String,
    /// Its `/diag/tunnel`.
    tunnel: Value,
}

/// Files for the archive, and how each task went.
#[derive(Default)]
struct Report {
    files: Vec<(&'static str, Vec<u8>)>,
    results: Map<String, Value>,
}

/// Writes the archive into the working directory.
pub(super) async fn run(chosen: &Chosen<'_>) -> Result<(), Failure> {
    let own = &chosen.own;
    let http = HttpClient::default();
    let given = own.text("metrics").or_else(|| chosen.tunnel.text("metrics"));
    let connector = find(&http, given).await?;
    let mut report = Report::default();
    for (file, path, flag) in ANSWERS {
        if is_wanted(own, flag)? {
            report.add(file, get(&http, &connector.address, path).await);
        }
    }
    if is_wanted(own, Some("no-diag-logs"))? {
        let log = log_file(own, &report);
        report.add(
            "cloudflared_logs.txt",
            log.and_then(|path| tail(Path::new(&path))),
        );
    }
    for (file, flag, why) in ABSENT {
        if is_wanted(own, Some(flag))? {
            report.add(file, Err(anyhow!("{why}")));
        }
    }
    let name = file_name(OffsetDateTime::now_utc());
    let archive = archive(&report).context("cannot make the archive")?;
    std::fs::write(&name, archive).with_context(|| format!("cannot write {name}"))?;
    let failed = report
        .results
        .iter()
        .filter(|(_, result)| result["result"] == "failure");
    for (task, result) in failed {
        output::tell(&format!(
            "{task}: {}",
            result["error"].as_str().unwrap_or_default()
        ));
    }
    output::print(&format!(
        "Connector {} of tunnel {} at {}\nDiagnostic file written: {name}\n",
        word(&connector.tunnel, "connectorID"),
        word(&connector.tunnel, "tunnelID"),
        connector.address
    ))
}

fn is_wanted(own: &Lookup<'_>, flag: Option<&str>) -> Result<bool, Failure> {
    let left_out = match flag {
        Some(flag) => own.switch(flag)?.unwrap_or(false),
        None => false,
    };
    Ok(!left_out)
}

/// The connector at `address`, or the only one on a default port.
async fn find(http: &HttpClient, address: Option<String>) -> Result<Found, Failure> {
    if let Some(address) = address {
        let tunnel = tunnel_at(http, &address).await;
        let tunnel = tunnel.with_context(|| format!("no connector answers at {address}"))?;
        return Ok(Found { address, tunnel });
    }
    let mut found = Vec::new();
    for port in DEFAULT_PORTS {
        let address = format!("localhost:{port}");
        // Nobody there, or somebody else.
        if let Ok(tunnel) = tunnel_at(http, &address).await {
            found.push(Found { address, tunnel });
        }
    }
    if found.len() > 1 {
        let all: Vec<_> = found
            .iter()
            .map(|one| format!("{} (tunnel {})", one.address, word(&one.tunnel, "tunnelID")))
            .collect();
        let error = anyhow!("there are {} connectors: {}", found.len(), all.join(", "));
        return Err(Failure::from(error).next("adit tunnel diag --metrics HOST:PORT"));
    }
    found.pop().ok_or_else(|| {
        let error = anyhow!("no connector answers on the ports 20241 to 20245 of localhost");
        Failure::from(error).next("adit tunnel diag --metrics HOST:PORT, as its log says at the start")
    })
}

async fn tunnel_at(http: &HttpClient, address: &str) -> anyhow::Result<Value> {
    let body = get(http, address, "/diag/tunnel").await?;
    let tunnel: Value = serde_json::from_slice(&body).context("the answer is no JSON")?;
    ensure!(tunnel.get("tunnelID").is_some(), "the answer names no tunnel");
    Ok(tunnel)
}

async fn get(http: &HttpClient, address: &str, path: &str) -> anyhow::Result<Vec<u8>> {
    let url = format!("http://{address}{path}");
    let request = Request {
        method: Method::GET,
        url: url.clone(),
        authorization: None,
        body: None,
    };
    let reply = http.exchange(request).await?;
    ensure!(reply.status == 200, "{url} answered {}", reply.status);
    Ok(reply.body)
}

/// The connector's log file, as it says itself.
fn log_file(own: &Lookup<'_>, report: &Report) -> anyhow::Result<String> {
    let elsewhere = ["diag-container-id", "diag-pod-id"]
        .into_iter()
        .find_map(|flag| Some((flag, own.text(flag)?)));
    if let Some((flag, id)) = elsewhere {
        let tool = if flag == "diag-pod-id" {
            "kubectl"
        } else {
            "docker"
        };
        return Err(anyhow!(
            "logs of containers are not collected: add the output of '{tool} logs {id}'"
        ));
    }
    let configuration = report
        .files
        .iter()
        .find(|(name, _)| *name == "cli-configuration.json");
    let configuration = configuration.and_then(|(_, body)| serde_json::from_slice::<Value>(body).ok());
    let file = configuration
        .as_ref()
        .and_then(|told| told.get("logfile"))
        .and_then(Value::as_str);
    file.map(str::to_owned).ok_or_else(|| {
        anyhow!("the connector writes no log file (--logfile); look into the journal of its service")
    })
}

/// The end of a file.
fn tail(path: &Path) -> anyhow::Result<Vec<u8>> {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES_MAX)))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

impl Report {
    fn add(&mut self, name: &'static str, collected: anyhow::Result<Vec<u8>>) {
        let result = match collected {
            Ok(body) => {
                self.files.push((name, body));
                json!({"result": "success"})
            }
            Err(error) => json!({"result": "failure", "error": format!("{error:#}")}),
        };
        self.results.insert(name.to_owned(), result);
    }
}

fn archive(report: &Report) -> anyhow::Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    // The operator's own, like the log in it.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .unix_permissions(0o600);
    for (name, body) in &report.files {
        zip.start_file(*name, options)?;
        zip.write_all(body)?;
    }
    zip.start_file("task-result.json", options)?;
    zip.write_all(serde_json::to_string_pretty(&report.results)?.as_bytes())?;
    Ok(zip.finish()?.into_inner())
}

fn file_name(now: OffsetDateTime) -> String {
    // File names on other systems have no colons.
    let time = to_seconds(now).replace(':', "-");
    format!("adit-diag-{}.zip", time.trim_end_matches('Z'))
}

fn word<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_holds_what_was_collected_and_how_it_went() {
        let mut report = Report::default();
        report.add("metrics.txt", Ok(b"build_info 1\n".to_vec()));
        report.add("heap.pprof", Err(anyhow!("none")));
        let bytes = archive(&report).unwrap();
        let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let mut read = |name: &str| {
            let mut text = String::new();
            zip.by_name(name).unwrap().read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(read("metrics.txt"), "build_info 1\n");
        let results: Value = serde_json::from_str(&read("task-result.json")).unwrap();
        assert_eq!(results["metrics.txt"]["result"], "success");
        assert_eq!(results["heap.pprof"]["error"], "none");
        assert_eq!(
            file_name(OffsetDateTime::UNIX_EPOCH),
            "adit-diag-1970-01-01T00-00-00.zip"
        );
    }

    #[test]
    fn of_a_long_log_the_end_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = File::create(&path).unwrap();
        file.set_len(LOG_BYTES_MAX + 7).unwrap();
        assert_eq!(tail(&path).unwrap().len() as u64, LOG_BYTES_MAX);
        assert!(tail(&folder.path().join("none")).is_err());
    }
}
