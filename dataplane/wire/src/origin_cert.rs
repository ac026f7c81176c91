//! `cert.pem`: the API credential of one account and zone, in the dress of a certificate.
//!
//! ```text
//! -----BEGIN ARGO TUNNEL TOKEN-----
//! base64 of {"zoneID":"…","accountID":"…","apiToken":"…","endpoint":"…"}
//! -----END ARGO TUNNEL TOKEN-----
//! ```
//! Legacy files carry `PRIVATE KEY` and `CERTIFICATE` blocks too, which are skipped; any other block
//! makes the file invalid, and so does a second token.
//!
//! Source: cloudflared `credentials/origin_cert.go`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::json_object::{BYTES_MAX, Object, ObjectError, quoted};

/// Largest file: legacy ones carry a certificate chain beside the token.
pub const FILE_BYTES_MAX: usize = 8 * BYTES_MAX;

const TOKEN_BLOCK: &str = "ARGO TUNNEL TOKEN";
const SKIPPED_BLOCKS: [&str; 2] = ["PRIVATE KEY", "CERTIFICATE"];

/// Characters in a line of a PEM body (RFC 7468 §2).
const LINE_WIDTH: usize = 64;

/// Why a text is not an origin certificate.
#[derive(Debug, thiserror::Error)]
pub enum OriginCertError {
    /// Longer than [`FILE_BYTES_MAX`].
    #[error("certificate file is {size} bytes long, which is too much")]
    TooLarge {
        /// Bytes of it.
        size: usize,
    },
    /// A block has no end or no valid body.
    #[error("certificate file has a {0} block that is not valid PEM")]
    Pem(String),
    /// A block that does not belong here.
    #[error("certificate file has an unknown block {0}")]
    UnknownBlock(String),
    /// No token block.
    #[error("missing token in the certificate")]
    NoToken,
    /// More than one.
    #[error("found multiple tokens in the certificate")]
    SeveralTokens,
    /// What is inside the token is wrong.
    #[error("token in the certificate is not valid: its content")]
    Content(#[from] ObjectError),
}

/// Credential for the REST API.
#[derive(Clone, PartialEq, Eq)]
pub struct OriginCert {
    /// Zone that hostnames are routed in.
    pub zone_id: String,
    /// Account; may be empty in old files.
    pub account_id: String,
    /// Bearer token.
    pub api_token: String,
    /// Region, lower case; empty for the default.
    pub endpoint: String,
}

impl OriginCert {
    /// Parses the content of a file.
    ///
    /// # Errors
    /// [`OriginCertError`].
    pub fn parse(text: &str) -> Result<Self, OriginCertError> {
        if text.len() > FILE_BYTES_MAX {
            return Err(OriginCertError::TooLarge { size: text.len() });
        }
        let mut token = None;
        let mut rest = text;
        while let Some((label, body, after)) = next_block(rest)? {
            rest = after;
            if SKIPPED_BLOCKS.contains(&label) {
                continue;
            }
            if label != TOKEN_BLOCK {
                return Err(OriginCertError::UnknownBlock(label.to_owned()));
            }
            if token.replace(body).is_some() {
                return Err(OriginCertError::SeveralTokens);
            }
        }
        let body: String = token
            .ok_or(OriginCertError::NoToken)?
            .split_ascii_whitespace()
            .collect();
        let json = STANDARD
            .decode(body)
            .map_err(|_| OriginCertError::Pem(TOKEN_BLOCK.to_owned()))?;
        let object = Object::parse(&json)?;
        Ok(Self {
            zone_id: object.required("zoneID")?.to_owned(),
            account_id: object.text("accountID")?.to_owned(),
            api_token: object.required("apiToken")?.to_owned(),
            endpoint: object.text("endpoint")?.to_lowercase(),
        })
    }

    /// The content of the file.
    pub fn to_pem(&self) -> String {
        let mut json = format!(
            "{{\"zoneID\":{},\"accountID\":{},\"apiToken\":{}",
            quoted(&self.zone_id),
            quoted(&self.account_id),
            quoted(&self.api_token)
        );
        if !self.endpoint.is_empty() {
            json += ",\"endpoint\":";
            json += &quoted(&self.endpoint);
        }
        json.push('}');
        let body = STANDARD.encode(json);
        let mut pem = format!("-----BEGIN {TOKEN_BLOCK}-----\n");
        for line in body.as_bytes().chunks(LINE_WIDTH) {
            pem.extend(line.iter().map(|&byte| char::from(byte)));
            pem.push('\n');
        }
        pem + &format!("-----END {TOKEN_BLOCK}-----\n")
    }
}

impl fmt::Debug for OriginCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginCert")
            .field("zone_id", &self.zone_id)
            .field("account_id", &self.account_id)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// Label, body and what follows of the first PEM block; text outside blocks is ignored.
fn next_block(text: &str) -> Result<Option<(&str, &str, &str)>, OriginCertError> {
    let Some((_, after_begin)) = text.split_once("-----BEGIN ") else {
        return Ok(None);
    };
    let Some((label, after_label)) = after_begin.split_once("-----") else {
        return Err(OriginCertError::Pem(String::new()));
    };
    let (body, after) = after_label
        .split_once("-----END ")
        .and_then(|(body, end)| Some((body, end.strip_prefix(label)?.strip_prefix("-----")?)))
        .ok_or_else(|| OriginCertError::Pem(label.chars().take(LINE_WIDTH).collect()))?;
    Ok(Some((label, body, after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cert() -> OriginCert {
        OriginCert {
            zone_id: "zone".to_owned(),
            account_id: "acct0123".to_owned(),
            api_token: "s3cret".repeat(20),
            endpoint: String::new(),
        }
    }

    fn block(label: &str, body: &str) -> String {
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            STANDARD.encode(body)
        )
    }

    #[test]
    fn certificates_survive_a_round_trip() {
        let regional = OriginCert {
            endpoint: "fed".to_owned(),
            ..cert()
        };
        for cert in [cert(), regional] {
            let pem = cert.to_pem();
            assert!(pem.lines().all(|line| line.len() <= LINE_WIDTH));
            assert_eq!(OriginCert::parse(&pem).unwrap(), cert);
        }
    }

    #[test]
    fn legacy_blocks_are_skipped_and_the_endpoint_becomes_lower_case() {
        let file = block("PRIVATE KEY", "k")
            + &block("CERTIFICATE", "c")
            + &block(TOKEN_BLOCK, r#"{"zoneID":"z","apiToken":"t","Endpoint":"FED"}"#);
        let cert = OriginCert::parse(&file).unwrap();
        assert_eq!((cert.endpoint.as_str(), cert.account_id.as_str()), ("fed", ""));
    }

    #[test]
    fn wrong_files_are_refused_with_cloudflareds_words() {
        let token = cert().to_pem();
        for (file, message) in [
            (String::new(), "missing token in the certificate"),
            (block("CERTIFICATE", "c"), "missing token in the certificate"),
            (token.clone() + &token, "found multiple tokens in the certificate"),
            (
                block("RSA PRIVATE KEY", "k"),
                "certificate file has an unknown block RSA PRIVATE KEY",
            ),
            (
                "-----BEGIN CERTIFICATE-----".to_owned(),
                "certificate file has a CERTIFICATE block that is not valid PEM",
            ),
            (
                block(TOKEN_BLOCK, r#"{"zoneID":"z"}"#),
                "token in the certificate is not valid: its content",
            ),
        ] {
            assert_eq!(OriginCert::parse(&file).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn the_api_token_is_not_shown() {
        assert!(!format!("{:?}", cert()).contains("s3cret"));
    }
}
