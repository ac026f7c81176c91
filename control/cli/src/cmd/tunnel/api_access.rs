//! Access to the control API: address, cert.pem, and what to try when a call fails.

use std::path::{Path, PathBuf};

use adit_wire::origin_cert::OriginCert;
use anyhow::{Context as _, anyhow};

use super::config_file::ConfigFile;
use super::search;
use crate::args::lookup::Lookup;
use crate::failure::Failure;
use crate::rest::{API_URL_DEFAULT, Access, Api, RestError};

/// The credential's file name in a default directory.
const CERT_NAME: &str = "cert.pem";

/// The API with the credential that was found.
pub(in crate::cmd) struct ApiAccess {
    /// The API.
    pub(in crate::cmd) api: Api,
    /// The credential.
    pub(in crate::cmd) cert: OriginCert,
    cert_path: PathBuf,
    url: String,
}

impl ApiAccess {
    /// Finds the API's address and the credential by flag, variable, configuration file, default.
    pub(in crate::cmd) fn open(flags: &Lookup<'_>, file: &ConfigFile) -> Result<Self, Failure> {
        let setting = |name: &str| match flags.text(name) {
            Some(text) => Ok(Some(text)),
            None => file.text(name),
        };
        let url = setting("api-url")?.unwrap_or_else(|| API_URL_DEFAULT.to_owned());
        let url = url.trim_end_matches('/').to_owned();
        let cert_path = match setting("origincert")? {
            Some(path) => search::expand(&path),
            None => search::find(&[CERT_NAME]).ok_or_else(no_cert)?,
        };
        let cert = read_cert(&cert_path)?;
        let access = Access {
            url: url.clone(),
            account: cert.account_id.clone(),
            zone: cert.zone_id.clone(),
            token: cert.api_token.clone(),
        };
        Ok(Self {
            api: Api::new(access),
            cert,
            cert_path,
            url,
        })
    }

    /// The directory of cert.pem, where credentials files are kept.
    pub(in crate::cmd) fn directory(&self) -> &Path {
        self.cert_path.parent().unwrap_or_else(|| Path::new(""))
    }

    /// Where cert.pem lies.
    pub(super) fn cert_path(&self) -> &Path {
        &self.cert_path
    }

    /// A failed call with what to try.
    pub(in crate::cmd) fn explain(&self, error: RestError) -> Failure {
        let unreachable = error.is_unreachable();
        let unauthorized = error.is_unauthorized();
        let name_taken = error.is_name_taken();
        let failure = Failure::from(anyhow::Error::new(error));
        if unreachable {
            failure.next(format!(
                "adit control --config control.yml, or --api-url if it is not at {}",
                self.url
            ))
        } else if unauthorized {
            failure.next(format!(
                "--origincert with the cert.pem of this control; this was {}",
                self.cert_path.display()
            ))
        } else if name_taken {
            failure.next("adit tunnel list")
        } else {
            failure
        }
    }
}

fn read_cert(path: &Path) -> Result<OriginCert, Failure> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let cert = OriginCert::parse(&text).with_context(|| format!("{} is not a credential", path.display()))?;
    if cert.account_id.is_empty() {
        return Err(anyhow!("{} names no account", path.display()).into());
    }
    Ok(cert)
}

fn no_cert() -> Failure {
    let error = anyhow!("there is no {CERT_NAME} in any of {}", search::listed());
    Failure::from(error).next("--origincert PATH; adit control writes cert.pem into its state directory")
}
