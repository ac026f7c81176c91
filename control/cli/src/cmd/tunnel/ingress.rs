//! `tunnel ingress validate` and `tunnel ingress rule`: checks rules without running anything.

use ::http::uri::{Authority, Scheme};
use adit_connector::ConfigError;
use adit_connector::config::ingress_file::{self, IngressFile};
use adit_proto::ingress::Rule;
use adit_proto::ingress::host::HostFilter;
use anyhow::{Context as _, anyhow, ensure};

use super::search;
use crate::args::leaf::Chosen;
use crate::failure::Failure;
use crate::output;

/// Checks the rules.
pub(super) fn validate(chosen: &Chosen<'_>) -> Result<(), Failure> {
    let file = read(chosen, "Validating")?.context("Validation failed")?;
    if chosen.tunnel.text("url").is_some() {
        let text = "You can't set the --url flag (or $TUNNEL_URL) when using multiple-origin ingress rules";
        return Err(anyhow!(text).into());
    }
    if file.unused_keys.is_empty() {
        return output::print("OK\n");
    }
    output::print(&format!(
        "Warning: unused keys detected in your config file. Here is a list of unused keys:\n{}\n",
        file.unused_keys.join("\n")
    ))
}

/// Shows the rule for a URL.
pub(super) fn rule(chosen: &Chosen<'_>) -> Result<(), Failure> {
    let argument = chosen.argument(0);
    let (host, path) = host_and_path(argument)?;
    let file = read(chosen, "Using")?.context("Validation failed")?;
    let (number, rule) = file.ingress.find(&host, &path);
    output::print(&format!("Matched rule #{number}\n{}", describe(rule)))
}

/// Says where the rules come from, then reads them.
fn read(chosen: &Chosen<'_>, verb: &str) -> Result<Result<IngressFile, ConfigError>, Failure> {
    if let Some(text) = chosen.own.text("json") {
        output::print(&format!("{verb} rules from cmdline flag --json\n"))?;
        return Ok(ingress_file::read_json(&text));
    }
    let given = chosen.tunnel.text("config").map(|path| search::expand(&path));
    let found = match ingress_file::find(given.as_deref()) {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    let Some(path) = found.path() else {
        let text = "No configuration file was found, or it is empty";
        return Err(Failure::from(anyhow!(text)).next("--config FILE, or a config.yml in ~/.cloudflared"));
    };
    output::print(&format!("{verb} rules from {}\n", path.display()))?;
    Ok(found.rules())
}

/// Host and path of a URL as a person writes it: what a browser would escape in the path may stand as it is.
fn host_and_path(url: &str) -> anyhow::Result<(String, String)> {
    ensure!(
        !url.is_empty(),
        "adit tunnel rule expects a single argument, the URL to test"
    );
    let no_host = || anyhow!("{url} doesn't have a hostname, consider adding a scheme");
    let (scheme, rest) = url.split_once("://").ok_or_else(no_host)?;
    ensure!(scheme.parse::<Scheme>().is_ok(), "{url} is not a valid URL");
    let (place, path) = match rest.find(['/', '?', '#']) {
        Some(end) => rest.split_at(end),
        None => (rest, ""),
    };
    if place.is_empty() {
        return Err(no_host());
    }
    let authority: Authority = place
        .parse()
        .map_err(|error| anyhow!("{url} is not a valid URL: {error}"))?;
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = if path.is_empty() { "/" } else { path };
    Ok((authority.host().to_owned(), path.to_owned()))
}

fn describe(rule: &Rule) -> String {
    let mut text = String::new();
    if rule.hostname != HostFilter::Any {
        text.push_str(&format!("\thostname: {}\n", rule.hostname));
    }
    if let Some(path) = &rule.path {
        text.push_str(&format!("\tpath: {}\n", path.as_str()));
    }
    text.push_str(&format!("\tservice: {}\n", rule.service));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_described_without_what_it_does_not_say() {
        let rules = r#"{"ingress":[{"hostname":"*.example.test","path":"^/a","service":"http://127.0.0.1:1"},
            {"service":"http_status:404"}]}"#;
        let ingress = ingress_file::read_json(rules).unwrap().ingress;
        let (host, path) = host_and_path("https://app.example.test/a?b").unwrap();
        let (number, rule) = ingress.find(&host, &path);
        assert_eq!(number, 0);
        assert_eq!(
            describe(rule),
            "\thostname: *.example.test\n\tpath: ^/a\n\tservice: http://127.0.0.1:1\n"
        );
        assert_eq!(describe(ingress.find("x", "/").1), "\tservice: http_status:404\n");
    }

    #[test]
    fn a_url_needs_a_scheme_and_a_hostname() {
        for url in [
            "",
            "app.example.test",
            "/a",
            "app.example.test:80",
            "http://",
            "http://[::1",
        ] {
            assert!(host_and_path(url).is_err(), "{url}");
        }
        for (url, path) in [
            ("http://me@x:80", "/"),
            ("https://x/a b?c", "/a b"),
            ("ws://x?c", "/"),
            ("http://x/a#b", "/a"),
        ] {
            assert_eq!(host_and_path(url).unwrap(), ("x".to_owned(), path.to_owned()));
        }
    }
}
