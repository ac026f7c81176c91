//! `tunnel route bulk`: lets all hostnames of a file lead to a tunnel.
//!
//! A file has a hostname on each line; empty lines and those that begin with `#` do not count. All are
//! checked before the first is sent. They are sent in lists of as many as control takes at once. Each list
//! is carried out whole or not at all.

use std::collections::BTreeSet;
use std::io::Read as _;

use adit_control_api::HostPattern;
use adit_control_api::route::{BulkRouteResult, ROUTES_PER_CALL_MAX};
use anyhow::Context as _;

use super::api_access::ApiAccess;
use super::resolve::tunnel_id;
use crate::args::leaf::Chosen;
use crate::failure::Failure;

/// Longest file that is read: a million hostnames of usual length.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Bad lines that are named.
const BAD_LINES_MAX: usize = 20;

/// Routes the hostnames of the file; says in the log what that changed.
pub(super) async fn run(chosen: &Chosen<'_>, access: &ApiAccess) -> Result<(), Failure> {
    let hostnames = parse(&read(chosen.argument(1))?)?;
    let overwrite = chosen.tunnel.switch("overwrite-dns")?.unwrap_or(false);
    let id = tunnel_id(access, chosen.argument(0)).await?;
    let mut sum = BulkRouteResult::default();
    for list in hostnames.chunks(ROUTES_PER_CALL_MAX) {
        let routed = access.api.route_many(id, list, overwrite).await;
        let result = routed.map_err(|error| {
            let done = sum.new + sum.updated + sum.unchanged;
            tracing::warn!("{}", stopped(done, hostnames.len()));
            access.explain(error)
        })?;
        sum.new += result.new;
        sum.updated += result.updated;
        sum.unchanged += result.unchanged;
    }
    let BulkRouteResult {
        new,
        updated,
        unchanged,
    } = sum;
    tracing::info!(
        tunnelID = %id,
        "{new} hostnames added, {updated} moved to this tunnel, {unchanged} led to it already"
    );
    Ok(())
}

/// What is so after a refusal.
fn stopped(done: usize, all: usize) -> String {
    if done == 0 {
        return "no hostname was routed".into();
    }
    format!("of {all} hostnames the first {done} lead to the tunnel; the others are as they were")
}

fn read(path: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path == "-" {
        std::io::stdin()
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
    };
    let bytes = read.with_context(|| format!("the hostnames in {path} cannot be read"))?;
    if bytes as u64 > FILE_BYTES_MAX {
        return Err(anyhow::anyhow!("{path} is longer than {FILE_BYTES_MAX} bytes; split it").into());
    }
    Ok(text)
}

/// The hostnames in order, each once.
fn parse(text: &str) -> Result<Vec<String>, Failure> {
    let (mut known, mut hostnames, mut bad) = (BTreeSet::new(), Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.parse::<HostPattern>() {
            Ok(pattern) => {
                if known.insert(pattern.clone()) {
                    hostnames.push(pattern.to_string());
                }
            }
            Err(error) => bad.push(format!("line {number}: {line:?}: {error}")),
        }
    }
    if !bad.is_empty() {
        let more = bad.len().saturating_sub(BAD_LINES_MAX);
        bad.truncate(BAD_LINES_MAX);
        if more > 0 {
            bad.push(format!("and {more} more"));
        }
        return Err(anyhow::anyhow!(
            "not every line is a hostname, so none was routed: {}",
            bad.join("; ")
        )
        .into());
    }
    if hostnames.is_empty() {
        return Err(anyhow::anyhow!("there is no hostname in the file").into());
    }
    Ok(hostnames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_line_by_line_and_each_bad_line_is_named() {
        let text = "# ours\nApp.test\n\n  *.team.test \r\napp.test\n";
        assert_eq!(parse(text).unwrap(), ["app.test", "*.team.test"]);
        let told = |text: &str| parse(text).unwrap_err().text().to_owned();
        let bad = told("a.test\nno host\na..b\n");
        assert!(
            bad.contains("line 2: \"no host\"") && bad.contains("line 3"),
            "{bad}"
        );
        assert!(told(&"no host\n".repeat(50)).contains("and 30 more"));
        assert!(told("# nothing\n").contains("no hostname"));
    }

    #[test]
    fn after_a_refusal_it_says_how_far_it_came() {
        assert_eq!(stopped(0, 9_000), "no hostname was routed");
        assert!(stopped(8_000, 9_000).contains("the first 8000"));
    }
}
