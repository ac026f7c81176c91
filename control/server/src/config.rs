//! `control.yml`: as written, then checked and resolved. Only [`Config`] travels.
//!
//! Every key has a default, so an empty file is valid. Unknown keys are errors that name the nearest known
//! key. `docs/configuration-control.md` describes each key.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use adit_control_api::snapshot::REPLICAS_MAX_DEFAULT;
use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::UserMessageFormatter;

mod quick;

pub use quick::QuickTunnels;

/// Where state lies unless told otherwise.
const STATE_DIR_DEFAULT: &str = "/var/lib/adit/control";

/// Where the REST API listens unless told otherwise: on this machine only.
const LISTEN_DEFAULT: &str = "127.0.0.1:7080";

/// The account made at the first start.
const ACCOUNT_DEFAULT: &str = "local";

/// Longest path of the edge socket. The kernel takes 107 bytes (unix(7)). The name under which the socket is
/// first bound needs a few more than its own.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// Largest configuration file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Most values that the aliases of a file stand for in all. Without it a file of 400 bytes takes 50 MiB to
/// read.
const ALIAS_EVENTS_MAX: usize = 10_000;

const KEYS: [&str; 7] = [
    "account",
    "edge-listen",
    "edge-socket",
    "listen",
    "quick-tunnels",
    "replicas-max",
    "state-dir",
];
const EDGE_LISTEN_KEYS: [&str; 1] = ["address"];

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the REST API, `/healthz` and `/metrics` listen.
    pub listen: SocketAddr,
    /// Where edges of this machine attach.
    pub edge_socket: PathBuf,
    /// Where remote edges attach with mutual TLS; nowhere when absent.
    pub edge_listen: Option<SocketAddr>,
    /// Store, CA and credentials.
    pub state_dir: PathBuf,
    /// Name of the account that is made when it is missing.
    pub account: String,
    /// Replicas each tunnel may have.
    pub replicas_max: u32,
    /// How quick tunnels are offered; not at all when absent.
    pub quick_tunnels: Option<QuickTunnels>,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The kernel's reason.
        #[source]
        source: std::io::Error,
    },
    /// The file is far too large.
    #[error("{} is larger than {FILE_BYTES_MAX} bytes; is it the right file?", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// The file is not YAML.
    #[error("{} is not valid YAML: {reason}", file.display())]
    Yaml {
        /// The file.
        file: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{}: unknown key {key:?}; {hint}", file.display())]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// The key as written, with its section.
        key: String,
        /// The nearest known key, or all of them.
        hint: String,
    },
    /// A value that does not fit its key.
    #[error("{}: {key}: {reason}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
}

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    listen: Option<Value>,
    edge_socket: Option<Value>,
    edge_listen: Option<EdgeListen>,
    state_dir: Option<Value>,
    account: Option<Value>,
    replicas_max: Option<Value>,
    quick_tunnels: Option<quick::Section>,
}

#[derive(Debug, Default, Deserialize)]
struct EdgeListen {
    address: Option<Value>,
}

impl Config {
    /// The defaults with this state directory; what `adit up` starts from.
    pub fn in_dir(state_dir: impl Into<PathBuf>) -> Self {
        let state_dir = state_dir.into();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7080)),
            edge_socket: state_dir.join("edge.sock"),
            edge_listen: None,
            state_dir,
            account: ACCOUNT_DEFAULT.into(),
            replicas_max: REPLICAS_MAX_DEFAULT,
            quick_tunnels: None,
        }
    }

    /// Reads and checks a file. Relative paths in it count from its folder.
    ///
    /// # Errors
    /// Any [`ConfigError`]; each names the file, the key and what to do.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read {
            file: file.into(),
            source,
        };
        if std::fs::metadata(file).map_err(read)?.len() > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { file: file.into() });
        }
        let text = std::fs::read_to_string(file).map_err(read)?;
        Self::parse(&text, file)
    }

    /// Checks a text as if it stood in `file`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let yaml = |error: &dyn fmt::Display| ConfigError::Yaml {
            file: file.into(),
            reason: error.to_string(),
        };
        let limits = serde_saphyr::options! {
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: ALIAS_EVENTS_MAX },
        };
        let tree: Option<Value> = serde_saphyr::from_str_with_options(text, limits).map_err(|error| {
            yaml(
                &error
                    .without_snippet()
                    .render_with_formatter(&UserMessageFormatter),
            )
        })?;
        let tree = tree.unwrap_or(Value::Null);
        check_keys(&tree, file)?;
        let written = if tree.is_null() {
            File::default()
        } else {
            serde_json::from_value(tree).map_err(|error| yaml(&error))?
        };
        Fields { file }.resolve(written)
    }
}

/// The resolved values as YAML. There is no secret among them.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A JSON string is a YAML string, whatever is in it.
        let quoted = |text: String| Value::String(text);
        let path = |path: &Path| quoted(path.display().to_string());
        writeln!(f, "listen: {}", quoted(self.listen.to_string()))?;
        writeln!(f, "edge-socket: {}", path(&self.edge_socket))?;
        if let Some(address) = self.edge_listen {
            writeln!(f, "edge-listen:\n  address: {}", quoted(address.to_string()))?;
        }
        writeln!(f, "state-dir: {}", path(&self.state_dir))?;
        writeln!(f, "account: {}", quoted(self.account.clone()))?;
        writeln!(f, "replicas-max: {}", self.replicas_max)?;
        self.quick_tunnels.as_ref().map_or(Ok(()), |quick| quick.fmt(f))
    }
}

/// Checks values one by one, for messages that name the key.
struct Fields<'a> {
    file: &'a Path,
}

impl Fields<'_> {
    fn resolve(&self, written: File) -> Result<Config, ConfigError> {
        let state_dir = self
            .path("state-dir", written.state_dir)?
            .unwrap_or_else(|| STATE_DIR_DEFAULT.into());
        let edge_socket = self
            .path("edge-socket", written.edge_socket)?
            .unwrap_or_else(|| state_dir.join("edge.sock"));
        if edge_socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(self.bad(
                "edge-socket",
                format!(
                    "{} is longer than the {SOCKET_PATH_BYTES_MAX} bytes that fit",
                    edge_socket.display()
                ),
            ));
        }
        let listen = written.listen.unwrap_or_else(|| LISTEN_DEFAULT.into());
        let edge_listen = written.edge_listen.and_then(|section| section.address);
        Ok(Config {
            listen: self.address("listen", &listen)?,
            edge_socket,
            edge_listen: edge_listen
                .map(|value| self.address("edge-listen.address", &value))
                .transpose()?,
            state_dir,
            account: self.account(written.account)?,
            replicas_max: self.replicas_max(written.replicas_max)?,
            quick_tunnels: self.quick_tunnels(written.quick_tunnels)?,
        })
    }

    fn path(&self, key: &'static str, value: Option<Value>) -> Result<Option<PathBuf>, ConfigError> {
        let folder = self.file.parent().unwrap_or_else(|| Path::new(""));
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(folder.join(text))),
            Some(other) => Err(self.bad(key, format!("{other} is not a path"))),
        }
    }

    fn address(&self, key: &'static str, value: &Value) -> Result<SocketAddr, ConfigError> {
        value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
            self.bad(
                key,
                format!("{value} is not an address; write it as {LISTEN_DEFAULT}"),
            )
        })
    }

    fn account(&self, value: Option<Value>) -> Result<String, ConfigError> {
        match value {
            None | Some(Value::Null) => Ok(ACCOUNT_DEFAULT.into()),
            Some(Value::String(name))
                if !name.is_empty() && name.len() <= 64 && !name.contains(char::is_control) =>
            {
                Ok(name)
            }
            Some(other) => Err(self.bad("account", format!("{other} is not a name of 1 to 64 bytes"))),
        }
    }

    fn replicas_max(&self, value: Option<Value>) -> Result<u32, ConfigError> {
        let Some(value) = value else {
            return Ok(REPLICAS_MAX_DEFAULT);
        };
        value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (1..=10_000).contains(number))
            .ok_or_else(|| self.bad("replicas-max", format!("{value} is not a number from 1 to 10000")))
    }

    fn bad(&self, key: &'static str, reason: String) -> ConfigError {
        ConfigError::Value {
            file: self.file.into(),
            key,
            reason,
        }
    }
}

fn check_keys(tree: &Value, file: &Path) -> Result<(), ConfigError> {
    if tree.is_null() {
        return Ok(());
    }
    let Some(object) = tree.as_object() else {
        let reason = "it must be a list of 'key: value' lines".into();
        return Err(ConfigError::Yaml {
            file: file.into(),
            reason,
        });
    };
    for (key, value) in object {
        known(key, "", &KEYS, file)?;
        let (section, keys, example): (_, &[&str], _) = match key.as_str() {
            "edge-listen" => ("edge-listen", &EDGE_LISTEN_KEYS, "{address: 0.0.0.0:7081}"),
            "quick-tunnels" => ("quick-tunnels", &quick::KEYS, "{domain: try.example.com}"),
            _ => continue,
        };
        let Some(written) = value.as_object() else {
            let reason = format!("write it as '{section}: {example}'");
            return Err(ConfigError::Value {
                file: file.into(),
                key: section,
                reason,
            });
        };
        let prefix = format!("{section}.");
        written
            .keys()
            .try_for_each(|key| known(key, &prefix, keys, file))?;
    }
    Ok(())
}

fn known(key: &str, section: &str, keys: &[&str], file: &Path) -> Result<(), ConfigError> {
    if keys.contains(&key) {
        return Ok(());
    }
    let nearest = keys
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
    let hint = match nearest {
        Some(nearest) if strsim::jaro_winkler(nearest, key) > 0.75 => format!("did you mean {nearest:?}?"),
        Some(_) | None => format!("known keys are {}", keys.join(", ")),
    };
    Err(ConfigError::UnknownKey {
        file: file.into(),
        key: format!("{section}{key}"),
        hint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/adit/control.yml")).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        for text in ["", "# nothing\n", "{}"] {
            assert_eq!(parse(text), Ok(Config::in_dir(STATE_DIR_DEFAULT)), "{text:?}");
        }
    }

    #[test]
    fn every_key_is_read_and_the_dump_reads_back_the_same() {
        let config = parse(concat!(
            "listen: '[::1]:8080'\nedge-socket: run/edge.sock\nedge-listen: {address: 0.0.0.0:7081}\n",
            "state-dir: /srv/adit\naccount: prod\nreplicas-max: 7\n"
        ))
        .unwrap();
        assert_eq!(config.edge_socket, Path::new("/etc/adit/run/edge.sock"));
        assert_eq!((config.account.as_str(), config.replicas_max), ("prod", 7));
        assert_eq!(parse(&config.to_string()), Ok(config));
    }

    #[test]
    fn unknown_keys_name_file_key_and_the_nearest_known_one() {
        let file = "/etc/adit/control.yml";
        assert_eq!(
            parse("lisen: x").unwrap_err(),
            format!("{file}: unknown key \"lisen\"; did you mean \"listen\"?")
        );
        assert_eq!(
            parse("edge-listen: {adress: x}").unwrap_err(),
            format!("{file}: unknown key \"edge-listen.adress\"; did you mean \"address\"?")
        );
        assert!(parse("zzz: 1").unwrap_err().contains("known keys are account, "));
    }

    #[test]
    fn bad_values_name_their_key() {
        let long = format!("edge-socket: /{}", "x".repeat(120));
        for (text, key) in [
            ("listen: 7080", "listen: "),
            ("listen: localhost:7080", "listen: "),
            ("edge-listen: 0.0.0.0:7081", "edge-listen: "),
            ("edge-listen: {address: x}", "edge-listen.address: "),
            ("state-dir: [a]", "state-dir: "),
            ("account: ''", "account: "),
            ("replicas-max: 0", "replicas-max: "),
            ("replicas-max: many", "replicas-max: "),
            (long.as_str(), "edge-socket: "),
            ("- a", "not valid YAML"),
            ("a: [", "not valid YAML"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.starts_with("/etc/adit/control.yml") && error.contains(key),
                "{text}: {error}"
            );
        }
    }
}
