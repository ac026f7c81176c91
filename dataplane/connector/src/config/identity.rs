//! Which tunnel is run and what proves that we may: a token, or a credentials file.
//!
//! Order: `--token`, `--token-file`, `--credentials-contents`, `--credentials-file`, then `<id>.json` beside
//! cert.pem and in the default directories. A token says which tunnel it is for; with credentials the
//! argument says it if it is an id, and else they do.
//!
//! Source: cloudflared `cmd/cloudflared/tunnel/subcommand_context.go`, `credential_finder.go`.

use std::path::{Path, PathBuf};

use adit_wire::TunnelId;
use adit_wire::credentials::Credentials;
use adit_wire::registration::TunnelAuth;
use adit_wire::token::TunnelToken;

use super::file::{default_directories, expand, read};
use super::{ConfigError, Flags};

/// A tunnel and the proof.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The tunnel.
    pub tunnel_id: TunnelId,
    /// Its account and secret.
    pub auth: TunnelAuth,
}

impl Identity {
    /// Finds it.
    pub(super) fn find(flags: &Flags) -> Result<Self, ConfigError> {
        if let Some(quick) = &flags.quick {
            return Ok(quick.identity.clone());
        }
        if let Some(text) = &flags.token {
            return from_token(text);
        }
        if let Some(path) = &flags.token_file {
            let text = read(&expand(path)).map_err(|error| ConfigError::TokenFile(Box::new(error)))?;
            return from_token(text.trim());
        }
        let name = flags.tunnel.as_deref().ok_or(ConfigError::NoTunnel)?;
        let asked: Option<TunnelId> = name.parse().ok();
        let credentials = match (&flags.credentials_contents, &flags.credentials_file) {
            (Some(text), _) => Credentials::parse(text.as_bytes()).map_err(ConfigError::Credentials)?,
            (None, Some(path)) => from_file(&expand(path))?,
            (None, None) => from_file(&search(asked, name, flags.origincert.as_deref())?)?,
        };
        let tunnel_id = asked
            .or(credentials.tunnel_id)
            .ok_or_else(|| ConfigError::NameNotId {
                name: name.to_owned(),
            })?;
        Ok(Self {
            tunnel_id,
            auth: TunnelAuth {
                account_tag: credentials.account_tag,
                secret: credentials.secret,
            },
        })
    }
}

fn from_token(text: &str) -> Result<Identity, ConfigError> {
    let token: TunnelToken = text.parse().map_err(ConfigError::Token)?;
    Ok(Identity {
        tunnel_id: token.tunnel_id,
        auth: TunnelAuth {
            account_tag: token.account_tag,
            secret: token.secret,
        },
    })
}

fn from_file(path: &Path) -> Result<Credentials, ConfigError> {
    if path.extension().is_some_and(|extension| extension == "pem") {
        return Err(ConfigError::CertificateAsCredentials {
            path: path.to_owned(),
        });
    }
    if !path.is_file() {
        return Err(ConfigError::CredentialsFile {
            path: path.to_owned(),
        });
    }
    let parsed = Credentials::parse(read(path)?.as_bytes());
    parsed.map_err(|error| ConfigError::Credentials(error).in_file(path))
}

/// Finds the file of a tunnel given by its id.
fn search(id: Option<TunnelId>, name: &str, origincert: Option<&Path>) -> Result<PathBuf, ConfigError> {
    let id = id.ok_or_else(|| ConfigError::NameNotId {
        name: name.to_owned(),
    })?;
    let name = format!("{id}.json");
    let beside_cert = origincert.and_then(|path| expand(path).parent().map(Path::to_owned));
    let directories: Vec<PathBuf> = beside_cert.into_iter().chain(default_directories()).collect();
    let mut places = directories.iter().map(|directory| directory.join(&name));
    places.find(|path| path.is_file()).ok_or_else(|| {
        let shown: Vec<String> = directories
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        ConfigError::NoCredentials {
            name,
            places: shown.join(", "),
        }
    })
}
