//! Tunnel tokens: all a connector needs to serve one tunnel, as one word.
//!
//! A token is padded standard base64 of `{"a":account,"s":secret,"t":tunnel id,"e":endpoint}`; the
//! endpoint is left out when empty. URL-safe or unpadded base64 is refused, as cloudflared does.
//!
//! Source: cloudflared `connection/connection.go`, `cmd/cloudflared/tunnel/subcommands.go`.

use std::fmt::Write as _;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::ids::{AccountTag, TunnelId};
use crate::json_object::{BYTES_MAX, Object, ObjectError, quoted, quoted_secret};
use crate::secret::TunnelSecret;

pub use crate::credentials::{Credentials, CredentialsError};
pub use crate::json_object::ObjectError as TokenContentError;
pub use crate::origin_cert::{OriginCert, OriginCertError};

/// Why a text is not a tunnel token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Far too long for a token.
    #[error("tunnel token is {size} bytes long, which is too much")]
    TooLarge {
        /// Bytes of the text.
        size: usize,
    },
    /// Not padded standard base64.
    #[error("tunnel token is not valid base64")]
    Base64(#[source] base64::DecodeError),
    /// What is inside is wrong.
    #[error("tunnel token is not valid: its content")]
    Content(#[source] ObjectError),
}

/// A tunnel's identity and secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelToken {
    /// Account that owns the tunnel.
    pub account_tag: AccountTag,
    /// Secret of the tunnel.
    pub secret: TunnelSecret,
    /// The tunnel.
    pub tunnel_id: TunnelId,
    /// Region to connect to; empty for the default.
    pub endpoint: String,
}

impl TunnelToken {
    /// Writes the token as cloudflared would, byte for byte.
    pub fn encode(&self) -> String {
        let account = quoted(self.account_tag.as_str());
        let mut json = format!(
            "{{\"a\":{account},\"s\":{},\"t\":\"{}\"",
            quoted_secret(&self.secret),
            self.tunnel_id
        );
        if !self.endpoint.is_empty() {
            // Writing to a String does not fail.
            let _ = write!(json, ",\"e\":{}", quoted(&self.endpoint));
        }
        json.push('}');
        STANDARD.encode(json)
    }
}

impl FromStr for TunnelToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        if text.len() > BYTES_MAX {
            return Err(TokenError::TooLarge { size: text.len() });
        }
        let json = STANDARD.decode(text).map_err(TokenError::Base64)?;
        read(&json).map_err(TokenError::Content)
    }
}

fn read(json: &[u8]) -> Result<TunnelToken, ObjectError> {
    let object = Object::parse(json)?;
    Ok(TunnelToken {
        account_tag: object.parsed("a")?,
        secret: object.secret("s")?,
        tunnel_id: object.parsed("t")?,
        endpoint: object.text("e")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = concat!(
        r#"{"a":"acct0123","s":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","#,
        r#""t":"11111111-2222-3333-4444-555555555555"}"#
    );

    fn token() -> TunnelToken {
        STANDARD.encode(JSON).parse().unwrap()
    }

    #[test]
    fn tokens_decode_and_encode_to_the_same_text() {
        assert_eq!(token().account_tag.as_str(), "acct0123");
        assert_eq!(token().secret, TunnelSecret::new((0..32).collect::<Vec<u8>>()));
        assert_eq!(token().encode(), STANDARD.encode(JSON));
        let regional = TunnelToken {
            endpoint: "us".to_owned(),
            ..token()
        };
        assert!(
            STANDARD
                .decode(regional.encode())
                .unwrap()
                .ends_with(br#","e":"us"}"#)
        );
        assert_eq!(regional.encode().parse::<TunnelToken>().unwrap(), regional);
    }

    #[test]
    fn order_space_case_and_unknown_keys_do_not_matter() {
        let loose = r#" {"x":[1], "T":"11111111-2222-3333-4444-555555555555", "e":null,
            "S":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "A":"acct0123"} "#;
        assert_eq!(STANDARD.encode(loose).parse::<TunnelToken>().unwrap(), token());
    }

    #[test]
    fn broken_tokens_are_refused() {
        let whole = STANDARD.encode(JSON);
        for bad in [
            "",
            "!",
            whole.trim_end_matches('='),
            &whole.replace('/', "_")[1..],
            &format!(" {whole}"),
        ] {
            assert!(bad.parse::<TunnelToken>().is_err(), "{bad:?}");
        }
        for (json, key) in [
            (r#"{"s":"AAEC","t":"11111111-2222-3333-4444-555555555555"}"#, "a"),
            (r#"{"a":"x","t":"11111111-2222-3333-4444-555555555555"}"#, "s"),
            (r#"{"a":"x","s":"AAEC"}"#, "t"),
        ] {
            let refused = STANDARD.encode(json).parse::<TunnelToken>();
            assert!(matches!(refused, Err(TokenError::Content(ObjectError::Missing(k))) if k == key));
        }
        let odd = r#"{"a":"x","s":"AA-_","t":1}"#;
        assert!(matches!(
            STANDARD.encode(odd).parse::<TunnelToken>(),
            Err(TokenError::Content(_))
        ));
        let long = "A".repeat(BYTES_MAX + 4);
        assert!(matches!(
            long.parse::<TunnelToken>(),
            Err(TokenError::TooLarge { .. })
        ));
    }
}
