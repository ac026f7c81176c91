//! Credentials files: a token's content as a file beside the connector.
//!
//! ```text
//! {"AccountTag":"…","TunnelSecret":"<padded base64>","TunnelID":"<uuid>","Endpoint":""}
//! ```
//! Written exactly so; read with keys in any case. Old files have no tunnel id.
//!
//! Source: cloudflared `connection/connection.go`, `cmd/cloudflared/tunnel/credential_finder.go`.

use crate::ids::{AccountTag, TunnelId};
use crate::json_object::{Object, ObjectError, quoted, quoted_secret};
use crate::secret::TunnelSecret;
use crate::token::TunnelToken;

/// Why a text is not a credentials file.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A certificate was given by mistake.
    #[error("this is a PEM file, not a tunnel credentials file (which is JSON and named <tunnel id>.json)")]
    Pem,
    /// What is inside is wrong.
    #[error("tunnel credentials file is not valid: its content")]
    Content(#[from] ObjectError),
}

/// What a credentials file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Account that owns the tunnel.
    pub account_tag: AccountTag,
    /// Secret of the tunnel.
    pub secret: TunnelSecret,
    /// The tunnel; absent from old files.
    pub tunnel_id: Option<TunnelId>,
    /// Region to connect to; empty for the default.
    pub endpoint: String,
}

impl Credentials {
    /// Parses the content of a file.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn parse(text: &[u8]) -> Result<Self, CredentialsError> {
        if text.trim_ascii_start().starts_with(b"-----BEGIN ") {
            return Err(CredentialsError::Pem);
        }
        let object = Object::parse(text)?;
        let tunnel_id = match object.text("TunnelID")? {
            "" => None,
            _ => Some(object.parsed("TunnelID")?),
        };
        Ok(Self {
            account_tag: object.parsed("AccountTag")?,
            secret: object.secret("TunnelSecret")?,
            tunnel_id,
            endpoint: object.text("Endpoint")?.to_owned(),
        })
    }

    /// The content of the file, without a newline at its end.
    pub fn to_json(&self) -> String {
        let tunnel_id = self.tunnel_id.map(|id| id.to_string()).unwrap_or_default();
        format!(
            "{{\"AccountTag\":{},\"TunnelSecret\":{},\"TunnelID\":\"{tunnel_id}\",\"Endpoint\":{}}}",
            quoted(self.account_tag.as_str()),
            quoted_secret(&self.secret),
            quoted(&self.endpoint),
        )
    }
}

impl From<TunnelToken> for Credentials {
    fn from(token: TunnelToken) -> Self {
        Self {
            account_tag: token.account_tag,
            secret: token.secret,
            tunnel_id: Some(token.tunnel_id),
            endpoint: token.endpoint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(
        r#"{"AccountTag":"acct0123","TunnelSecret":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","#,
        r#""TunnelID":"11111111-2222-3333-4444-555555555555","Endpoint":""}"#
    );

    #[test]
    fn files_are_written_as_cloudflared_writes_them() {
        let credentials = Credentials::parse(FILE.as_bytes()).unwrap();
        assert_eq!(credentials.to_json(), FILE);
        let token = TunnelToken {
            account_tag: credentials.account_tag.clone(),
            secret: credentials.secret.clone(),
            tunnel_id: credentials.tunnel_id.unwrap(),
            endpoint: String::new(),
        };
        assert_eq!(Credentials::from(token), credentials);
    }

    #[test]
    fn old_files_and_other_cases_are_read() {
        let old = r#"{"accounttag":"a","TUNNELSECRET":"AAEC","TunnelName":"x"}"#;
        let credentials = Credentials::parse(old.as_bytes()).unwrap();
        assert_eq!(
            (credentials.tunnel_id, credentials.secret.as_bytes()),
            (None, &[0, 1, 2][..])
        );
    }

    #[test]
    fn other_files_are_refused_with_their_reason() {
        let pem = b"\n-----BEGIN ARGO TUNNEL TOKEN-----\n";
        assert!(matches!(Credentials::parse(pem), Err(CredentialsError::Pem)));
        for (bad, message) in [
            ("", "is not a JSON object"),
            ("[]", "is not a JSON object"),
            (r#"{"AccountTag":"a"}"#, "has no TunnelSecret"),
            (
                r#"{"AccountTag":"a","TunnelSecret":"="}"#,
                "has a TunnelSecret that is not valid",
            ),
            (
                r#"{"AccountTag":"a","TunnelSecret":"AAEC","TunnelID":"7"}"#,
                "has a TunnelID that is not valid",
            ),
        ] {
            let Err(CredentialsError::Content(error)) = Credentials::parse(bad.as_bytes()) else {
                panic!("{bad}")
            };
            assert_eq!(error.to_string(), message);
        }
    }
}
