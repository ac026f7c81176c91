//! Why a configuration cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use adit_proto::ingress::IngressError;
use adit_proto::ingress::url_flag::UrlFlagError;
use adit_wire::credentials::CredentialsError;
use adit_wire::token::TokenError;

/// Why a configuration cannot be used. Where cloudflared has a text for the case, it is that text.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `config.yml` is not YAML.
    #[error("{} is not valid YAML: {reason}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// What a file says cannot be used.
    #[error("{} cannot be used", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<Self>,
    },
    /// The file was to be read again and says nothing, as if somebody were still writing it.
    #[error("{} has become empty", path.display())]
    Emptied {
        /// The file.
        path: PathBuf,
    },
    /// The file was to be read again and has lost its rules, most likely by a slip.
    #[error(
        "{} has no ingress rules any more, and every visitor would get 503{hint}", path.display()
    )]
    RulesGone {
        /// The file.
        path: PathBuf,
        /// Which keys may be slips, and how to say that nothing is to be served.
        hint: String,
    },
    /// Keys that nobody knows are those of others, written wrong.
    #[error("unknown keys: {keys}; correct them, or remove them if they are meant for something else")]
    Misspelled {
        /// Each with the known one.
        keys: String,
    },
    /// There was no file at the start, so there is none to read again.
    #[error("no configuration file was read")]
    NoFile,
    /// A configuration from an edge or the command line is not JSON.
    #[error("the configuration is not valid JSON")]
    Json(#[source] serde_json::Error),
    /// A key's value is of another kind.
    #[error("expected {expected} found {found} for {key}")]
    Kind {
        /// The key.
        key: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A value of the right kind that makes no sense.
    #[error("invalid value {value:?} for {key}: {why}")]
    Value {
        /// The key or flag.
        key: String,
        /// What was given.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something that cloudflared does and we do not.
    #[error("{what} is not supported yet")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
    /// The ingress rules are not valid.
    #[error(transparent)]
    Ingress(#[from] IngressError),
    /// The origin that `--url`, its variable or its key names is not valid.
    #[error("Error validating origin URL: invalid value for url")]
    OriginUrl(#[source] UrlFlagError),
    /// The origin that another flag or key outside the rules names is not valid.
    #[error("{key} cannot be used")]
    Origin {
        /// The flag or key.
        key: &'static str,
        /// What is wrong with it.
        #[source]
        source: IngressError,
    },
    /// A token is not valid.
    #[error("Provided Tunnel token is not valid.")]
    Token(#[source] TokenError),
    /// The file of a token cannot be read.
    #[error("Failed to read token file")]
    TokenFile(#[source] Box<Self>),
    /// The named credentials file is not there.
    #[error("Tunnel credentials file '{}' doesn't exist or is not a file", path.display())]
    CredentialsFile {
        /// The file.
        path: PathBuf,
    },
    /// Credentials are not valid.
    #[error("Invalid JSON when parsing tunnel credentials file")]
    Credentials(#[source] CredentialsError),
    /// A certificate was given where credentials are needed.
    #[error(
        "{} is a certificate; --credentials-file takes the tunnel's JSON file, --origincert takes cert.pem",
        path.display()
    )]
    CertificateAsCredentials {
        /// The file.
        path: PathBuf,
    },
    /// Nobody said which tunnel.
    #[error(
        "a tunnel is needed: its name or id as argument, the key \"tunnel\" of config.yml, or --token or --token-file"
    )]
    NoTunnel,
    /// A tunnel's name cannot be turned into an id here.
    #[error("the credentials do not name a tunnel, so {name:?} must be the tunnel's id")]
    NameNotId {
        /// What was given.
        name: String,
    },
    /// No credentials were found.
    #[error(
        "tunnel credentials file not found: looked for {name} in {places}; give --credentials-file or --token"
    )]
    NoCredentials {
        /// The file's name.
        name: String,
        /// Where it was looked for.
        places: String,
    },
    /// No edge is known.
    #[error("no edge address: give --edge HOST:PORT (or the key \"edge\" of config.yml) at least once")]
    NoEdge,
    /// A PEM file has no usable certificate.
    #[error("{} holds no usable certificate: {why}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl ConfigError {
    /// The same, about what stands in the file at `path`.
    pub(super) fn in_file(self, path: &Path) -> Self {
        Self::InFile {
            path: path.to_owned(),
            source: Box::new(self),
        }
    }
}
