//! Configuration files: whatever stands in one, it is taken, or refused with the file's name and the place.

use std::error::Error;
use std::path::Path;

use adit_connector::{ConfigError, Flags};

use crate::engine::{MemoryBound, Target, run, run_slow};

/// A tree of YAML values is many times the size of its text. Aliases and regular expressions have limits of
/// their own.
const YAML: MemoryBound = MemoryBound {
    base_bytes: 8 * 1024 * 1024,
    factor: 512,
};

/// Where the text is said to stand.
const FILE: &str = "/etc/adit/fuzzed.yml";

/// A token, so that no file is looked for.
const TOKEN: &str = "eyJhIjoiYWNjdCIsInQiOiIxMTExMTExMS0yMjIyLTMzMzMtNDQ0NC01NTU1NTU1NTU1NTUiLCJzIjoiQUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOD0ifQ==";

/// Keys whose values are checked beyond their kind.
const EDGE_KEYS: [&str; 17] = [
    "name",
    "colo",
    "region",
    "location",
    "listeners.tunnel",
    "listeners.http",
    "listeners.https",
    "listeners.admin",
    "control",
    "cores",
    "io",
    "limits.idle-timeout",
    "limits.response-head-timeout",
    "limits.memory",
    "limits.visitor-connections",
    "trusted-proxies",
    "grace-period",
];
const CONTROL_KEYS: [&str; 7] = [
    "listen",
    "edge-socket",
    "edge-listen",
    "edge-listen.address",
    "state-dir",
    "account",
    "replicas-max",
];
const CONNECTOR_FLAGS: [&str; 11] = [
    "protocol",
    "edge",
    "tag",
    "url",
    "unix-socket",
    "ha-connections",
    "cores",
    "grace-period",
    "--protocol",
    "--bastion",
    "--socks5",
];

/// What an operator reads: the error with its causes.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The error names the file, and where in it: a key, a rule, or a line.
fn assert_helpful(error: &dyn Error, keys: &[&str]) {
    let text = told(error);
    let place = text
        .strip_prefix(FILE)
        .unwrap_or_else(|| panic!("no file: {text}"));
    let is_placed = ["unknown key ", "line ", " for ", "ule #"]
        .iter()
        .any(|words| place.contains(words))
        || keys.iter().any(|key| place.starts_with(&format!(": {key}: ")))
        // About the file as a whole, or in the words of the thing itself.
        || ["ingress rule", "is not supported yet", "'key: value' lines"]
            .iter()
            .any(|words| place.contains(words));
    assert!(is_placed, "no place: {text}");
}

/// The same for a value that a flag may have given as well: it is named, the file is not.
fn assert_names_flag(error: &dyn Error, keys: &[&str]) {
    let text = told(error);
    let is_named = keys
        .iter()
        .any(|key| text.starts_with(key) || text.contains(&format!("for {key}: ")));
    assert!(is_named, "no flag: {text}");
}

#[test]
fn edge_config() {
    run(&Target {
        name: "edge_config",
        memory: YAML,
        check: |input| {
            let text = String::from_utf8_lossy(input);
            match adit_edge::Config::parse(Path::new(FILE), &text) {
                Ok(config) => {
                    let shown = config.to_string();
                    let again = adit_edge::Config::parse(Path::new(FILE), &shown);
                    let again = again.unwrap_or_else(|error| panic!("{error}\n{shown}"));
                    assert_eq!(again.to_string(), shown);
                }
                Err(error) => assert_helpful(&error, &EDGE_KEYS),
            }
        },
    });
}

#[test]
fn control_config() {
    let target = Target {
        name: "control_config",
        memory: YAML,
        check: |input| {
            let text = String::from_utf8_lossy(input);
            match adit_control::Config::parse(&text, Path::new(FILE)) {
                Ok(config) => {
                    let again = adit_control::Config::parse(&config.to_string(), Path::new(FILE));
                    assert_eq!(again.expect("our own dump is valid"), config);
                }
                Err(error) => assert_helpful(&error, &CONTROL_KEYS),
            }
        },
    };
    run_slow(&target, 10);
}

#[test]
fn connector_config() {
    let target = Target {
        name: "connector_config",
        memory: YAML,
        check: |input| {
            let text = String::from_utf8_lossy(input);
            let flags = Flags {
                token: Some(TOKEN.to_owned()),
                edge: vec!["127.0.0.1:7844".to_owned()],
                ..Flags::default()
            };
            match adit_connector::Config::parse(Path::new(FILE), &text, flags) {
                Ok(_) => {}
                Err(error @ (ConfigError::Yaml { .. } | ConfigError::InFile { .. })) => {
                    assert_helpful(&error, &[]);
                }
                Err(error) => assert_names_flag(&error, &CONNECTOR_FLAGS),
            }
        },
    };
    run_slow(&target, 10);
}
