//! Keys of `config.yml` that management commands need; the connector reads the rest itself.
//!
//! Any flag's name may be a key. The file is the one given by `--config`, else the first one found in the
//! default directories; without a file everything comes from flags and variables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use serde_json::Value;
use serde_saphyr::UserMessageFormatter;

use super::search;
use crate::args::lookup::Lookup;
use crate::failure::Failure;

/// Names of the file in a default directory.
const NAMES: &[&str] = &["config.yml", "config.yaml"];

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The file's top-level keys.
#[derive(Debug, Default)]
pub(in crate::cmd) struct ConfigFile {
    path: Option<PathBuf>,
    keys: BTreeMap<String, Value>,
}

impl ConfigFile {
    /// Finds and reads the file.
    pub(in crate::cmd) fn find(flags: &Lookup<'_>) -> Result<Self, Failure> {
        let Some(path) = flags
            .text("config")
            .map(|path| search::expand(&path))
            .or_else(|| search::find(NAMES))
        else {
            return Ok(Self::default());
        };
        let keys =
            read(&path).with_context(|| format!("cannot use the configuration file {}", path.display()))?;
        Ok(Self {
            path: Some(path),
            keys,
        })
    }

    /// The text of a key.
    pub(in crate::cmd) fn text(&self, key: &str) -> Result<Option<String>, Failure> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                let path = self.path.as_deref().unwrap_or_else(|| Path::new("")).display();
                Err(anyhow!("the key {key} of {path} must be a string").into())
            }
        }
    }

    /// Whether a key is on.
    pub(super) fn switch(&self, key: &str) -> Result<bool, Failure> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(on)) => Ok(*on),
            Some(Value::String(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(anyhow!("the key {key} of the configuration file must be true or false").into())
            }
        }
    }
}

fn read(path: &Path) -> anyhow::Result<BTreeMap<String, Value>> {
    let size = std::fs::metadata(path)?.len();
    ensure!(size <= FILE_BYTES_MAX, "it is larger than {FILE_BYTES_MAX} bytes");
    let text = std::fs::read_to_string(path)?;
    parse(&text)
}

fn parse(text: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    let keys: Option<BTreeMap<String, Value>> = serde_saphyr::from_str(text)
        .map_err(|error| {
            error
                .without_snippet()
                .render_with_formatter(&UserMessageFormatter)
        })
        .map_err(|reason| anyhow!("it is not valid YAML: {reason}"))?;
    Ok(keys.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_text_and_other_kinds_are_told() {
        let keys = parse("tunnel: lab\nretries: 3\ningress:\n- service: http_status:404\n").unwrap();
        let file = ConfigFile { path: None, keys };
        assert_eq!(file.text("tunnel").unwrap().as_deref(), Some("lab"));
        assert_eq!(file.text("origincert").unwrap(), None);
        assert!(
            file.text("retries")
                .unwrap_err()
                .text()
                .contains("must be a string")
        );
    }

    #[test]
    fn an_empty_file_has_no_keys_and_broken_yaml_is_told() {
        assert!(parse("").unwrap().is_empty());
        assert!(parse("# nothing\n").unwrap().is_empty());
        assert!(parse("a: [1").is_err());
    }
}
