//! `tunnel create`: a tunnel and its credentials file, or neither.

use std::path::{Path, PathBuf};

use adit_control_api::tunnel::TunnelView;
use adit_wire::credentials::Credentials;
use adit_wire::{TunnelId, TunnelSecret};
use anyhow::{Context as _, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::api_access::ApiAccess;
use super::{credentials, search, view};
use crate::args::leaf::Chosen;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Bytes of a secret we make, and the fewest a given one may have.
pub(crate) const SECRET_BYTES: usize = 32;

/// Creates a tunnel.
pub(super) async fn run(chosen: &Chosen<'_>, access: &ApiAccess) -> Result<(), Failure> {
    let name = chosen.argument(0);
    let format = Format::from_flags(&chosen.own)?;
    let secret = match chosen.own.text("secret") {
        Some(text) => decode_secret(&text)?,
        None => random_secret()?,
    };
    let tunnel = create(chosen, access, name, secret).await?;
    if format != Format::Text {
        return output::print_document(format, &view::created(format, &tunnel.view, &tunnel.token));
    }
    output::print(&tunnel.told())
}

/// A tunnel that was made.
pub(super) struct Made {
    /// As the API shows it.
    pub(super) view: TunnelView,
    token: String,
    credentials: PathBuf,
    is_path_given: bool,
}

impl Made {
    /// What people are told of it.
    pub(super) fn told(&self) -> String {
        let chose = " adit chose this file based on where your origin certificate was found.";
        format!(
            "Tunnel credentials written to {}.{} Keep this file secret. To revoke these credentials, delete the tunnel.\n\nCreated tunnel {} with id {}\n",
            self.credentials.display(),
            if self.is_path_given { "" } else { chose },
            self.view.name,
            self.view.id,
        )
    }
}

/// Creates a tunnel and writes its credentials, to the file that the flag names or beside cert.pem.
pub(super) async fn create(
    chosen: &Chosen<'_>,
    access: &ApiAccess,
    name: &str,
    secret: TunnelSecret,
) -> Result<Made, Failure> {
    if name.is_empty() {
        return Err(anyhow!("failed to create tunnel: tunnel name required").into());
    }
    if name.parse::<TunnelId>().is_ok() {
        return Err(anyhow!("failed to create tunnel: you cannot use UUIDs as tunnel names").into());
    }
    let created = access
        .api
        .create_tunnel(name, &STANDARD.encode(secret.as_bytes()))
        .await;
    let created = created.map_err(|error| access.explain(error))?;
    let id = created.tunnel.id;
    let given = chosen
        .tunnel
        .text("credentials-file")
        .map(|path| search::expand(&path));
    let path = given
        .clone()
        .unwrap_or_else(|| access.directory().join(credentials::file_name(id)));
    write_or_undo(access, id, secret, &path).await?;
    Ok(Made {
        view: created.tunnel,
        token: created.token,
        credentials: path,
        is_path_given: given.is_some(),
    })
}

/// A new secret for a tunnel.
pub(crate) fn random_secret() -> anyhow::Result<TunnelSecret> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("the system gives no random bytes: {error}"))?;
    Ok(TunnelSecret::new(bytes))
}

fn decode_secret(text: &str) -> anyhow::Result<TunnelSecret> {
    let bytes = STANDARD
        .decode(text)
        .context("cannot decode the tunnel secret, it must be padded base64")?;
    ensure!(
        bytes.len() >= SECRET_BYTES,
        "Decoded tunnel secret must be at least {SECRET_BYTES} bytes long"
    );
    Ok(TunnelSecret::new(bytes))
}

/// Writes the file; a tunnel that nobody could run is deleted again.
async fn write_or_undo(
    access: &ApiAccess,
    id: TunnelId,
    secret: TunnelSecret,
    path: &Path,
) -> Result<(), Failure> {
    let account_tag = access
        .cert
        .account_id
        .parse()
        .context("cert.pem names an account that cannot be one");
    let written = account_tag.and_then(|account_tag| {
        let credentials = Credentials {
            account_tag,
            secret,
            tunnel_id: Some(id),
            endpoint: String::new(),
        };
        credentials::write(path, &credentials)
    });
    let Err(error) = written else { return Ok(()) };
    let undone = match access.api.delete_tunnel(id, true).await {
        Ok(()) => "the tunnel was deleted again".to_owned(),
        Err(undo) => format!("and the tunnel {id} could not be deleted again ({undo})"),
    };
    Err(error
        .context(format!("the tunnel's credentials could not be kept, {undone}"))
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_secret_is_base64_of_enough_bytes() {
        assert_eq!(
            decode_secret(&STANDARD.encode([7; 32])).unwrap(),
            TunnelSecret::new([7; 32])
        );
        assert!(decode_secret(&STANDARD.encode([7; 31])).is_err());
        assert!(decode_secret("no base64").is_err());
    }

    #[test]
    fn made_secrets_differ() {
        assert_ne!(random_secret().unwrap(), random_secret().unwrap());
    }
}
