//! Tokens that open the management service of a tunnel's connectors: logs as they come, and who the connector
//! is.
//!
//! Control signs them ([`Signer`]). Edges verify them with the key that the snapshot brings
//! ([`ManagementKey`]), without asking control. Connectors only read them, so an edge must never pass one on
//! that it has not verified.
//!
//! ```text
//! {"alg":"ES256","typ":"JWT"} .
//! {"tun":{"id","account_tag"},"actor":{"id","support"},"res":[…],"iat","exp","iss"}
//! ```
//! Source: RFC 7515, RFC 7518 §3.4, cloudflared `management/token.go`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adit_wire::ids::{AccountTag, TunnelId};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// Longest token that is looked at; ours have about 400 bytes.
pub const TOKEN_BYTES_MAX: usize = 4 << 10;

/// How long a token opens what it opens.
pub const TOKEN_LIFE: Duration = Duration::from_secs(3_600);

/// Hostname that connectors take for their management service when nobody says otherwise: cloudflared's.
pub const CONNECTOR_HOSTNAME: &str = "management.argotunnel.com";

/// Who issues.
const ISSUER: &str = "adit-control";

/// An uncompressed point on P-256.
const KEY_BYTES: usize = 65;

/// The public key that tokens are verified with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ManagementKey([u8; KEY_BYTES]);

impl TryFrom<String> for ManagementKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or("a management key is an uncompressed point on P-256 in base64url")
    }
}

impl From<ManagementKey> for String {
    fn from(key: ManagementKey) -> Self {
        URL_SAFE_NO_PAD.encode(key.0)
    }
}

/// What a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Log lines as they come.
    Logs,
    /// Everything.
    Admin,
    /// Name and address of the connector's host.
    HostDetails,
    /// Whether the connector is there, which every token opens.
    Ping,
    /// One that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Resource {
    /// Reads its name in paths and tokens.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "logs" => Some(Self::Logs),
            "admin" => Some(Self::Admin),
            "host_details" => Some(Self::HostDetails),
            "ping" => Some(Self::Ping),
            _ => None,
        }
    }

    /// That name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Admin => "admin",
            Self::HostDetails => "host_details",
            Self::Ping => "ping",
            Self::Unknown => "unknown",
        }
    }

    /// What a path of the management service needs; `None` for one that any token opens.
    pub fn of_path(path: &str) -> Option<Self> {
        match path {
            "/ping" => None,
            "/logs" => Some(Self::Logs),
            "/host_details" => Some(Self::HostDetails),
            _ => Some(Self::Admin),
        }
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whose connectors it opens.
    #[serde(rename = "tun")]
    pub tunnel: TunnelClaim,
    /// Who asked for it.
    pub actor: ActorClaim,
    /// What it opens of them.
    #[serde(rename = "res")]
    pub resources: Vec<Resource>,
    /// When it was made, in seconds since 1970.
    #[serde(rename = "iat")]
    pub issued_at: u64,
    /// When it ends.
    #[serde(rename = "exp")]
    pub expires_at: u64,
    /// Who made it.
    #[serde(rename = "iss")]
    pub issuer: String,
}

/// A tunnel in a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelClaim {
    /// Its id.
    pub id: TunnelId,
    /// The account that owns it.
    pub account_tag: AccountTag,
}

/// Somebody in a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorClaim {
    /// Who; a later log stream of the same one takes the place of an earlier.
    pub id: String,
    /// Whether it is the provider's support.
    #[serde(default)]
    pub support: bool,
}

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not of this form.
    #[error("it is no token of this control")]
    Malformed,
    /// Somebody else has signed it, or it was changed.
    #[error("its signature is not control's")]
    Signature,
    /// It has expired.
    #[error("it has expired")]
    Expired,
}

impl Claims {
    /// For `resources` of a tunnel, from `now` for [`TOKEN_LIFE`].
    pub fn new(tunnel: TunnelClaim, actor: String, resources: Vec<Resource>, now: SystemTime) -> Self {
        let issued_at = seconds(now);
        Self {
            tunnel,
            actor: ActorClaim {
                id: actor,
                support: false,
            },
            resources,
            issued_at,
            expires_at: issued_at.saturating_add(TOKEN_LIFE.as_secs()),
            issuer: ISSUER.to_owned(),
        }
    }

    /// Whether the token opens `path` of the management service.
    pub fn opens(&self, path: &str) -> bool {
        let needed = Resource::of_path(path);
        needed.is_none_or(|needed| {
            self.resources
                .iter()
                .any(|held| *held == needed || *held == Resource::Admin)
        })
    }
}

/// The private key.
pub struct Signer(EcdsaKeyPair);

impl Signer {
    /// Reads a key of ECDSA on P-256 in PKCS #8.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(pkcs8: &[u8]) -> Result<Self, KeyRejected> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map(Self)
    }

    /// What edges verify with.
    pub fn public(&self) -> Option<ManagementKey> {
        self.0.public_key().as_ref().try_into().ok().map(ManagementKey)
    }

    /// Makes a token.
    ///
    /// # Errors
    /// Without randomness.
    pub fn sign(&self, claims: &Claims) -> Result<String, Unspecified> {
        let claims = serde_json::to_vec(claims).map_err(|_| Unspecified)?;
        let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"ES256","typ":"JWT"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl ManagementKey {
    /// Reads a token that control has signed and that has not expired.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header: Header = decode(header)?;
        if header.alg != "ES256" {
            return Err(TokenError::Malformed);
        }
        let claims: Claims = decode(claims)?;
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| TokenError::Malformed)?;
        // Cheap refusals come first: a signature takes a hundred times as long.
        if claims.expires_at <= seconds(now) {
            return Err(TokenError::Expired);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.0)
            .verify(signed.as_bytes(), &signature)
            .map_err(|Unspecified| TokenError::Signature)?;
        Ok(claims)
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

fn decode<T: for<'a> Deserialize<'a>>(part: &str) -> Result<T, TokenError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = UNIX_EPOCH;

    fn signer() -> Signer {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        Signer::read(made.unwrap().as_ref()).unwrap()
    }

    fn claims(resources: &[Resource]) -> Claims {
        let tunnel = TunnelClaim {
            id: "11111111-2222-3333-4444-555555555555".parse().unwrap(),
            account_tag: "acc".parse().unwrap(),
        };
        Claims::new(tunnel, "somebody".into(), resources.to_vec(), NOW)
    }

    #[test]
    fn a_token_is_of_its_key_and_its_time() {
        let (signer, other) = (signer(), signer());
        let claims = claims(&[Resource::Logs]);
        let token = signer.sign(&claims).unwrap();
        let key = signer.public().unwrap();
        assert_eq!(key.verify(&token, NOW), Ok(claims));
        let stranger = other.public().unwrap();
        assert_eq!(stranger.verify(&token, NOW), Err(TokenError::Signature));
        assert_eq!(key.verify(&token, NOW + TOKEN_LIFE), Err(TokenError::Expired));
        let text = String::from(key);
        assert_eq!(ManagementKey::try_from(text), Ok(key));
    }

    #[test]
    fn what_is_changed_or_cut_opens_nothing() {
        let signer = signer();
        let key = signer.public().unwrap();
        let token = signer.sign(&claims(&[Resource::Logs])).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let other = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims(&[Resource::Admin])).unwrap());
        let none = URL_SAFE_NO_PAD.encode(br#"{"alg":"none"}"#);
        for forged in [
            format!("{}.{other}.{}", parts[0], parts[2]),
            format!("{none}.{}.", parts[1]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}", parts[0], parts[1]),
            "..".to_owned(),
            String::new(),
            "x".repeat(TOKEN_BYTES_MAX + 1),
        ] {
            assert!(key.verify(&forged, NOW).is_err(), "{forged}");
        }
    }

    #[test]
    fn resources_of_a_later_version_open_nothing_and_spoil_nothing() {
        let held: Vec<Resource> = serde_json::from_str(r#"["logs","ping","coffee"]"#).unwrap();
        assert_eq!(held, [Resource::Logs, Resource::Ping, Resource::Unknown]);
        let claims = claims(&held);
        assert!(claims.opens("/logs") && claims.opens("/ping"));
        assert!(!claims.opens("/host_details") && !claims.opens("/coffee"));
    }

    #[test]
    fn paths_need_what_they_show() {
        let cases = [
            (Resource::Logs, vec!["/ping", "/logs"]),
            (Resource::HostDetails, vec!["/ping", "/host_details"]),
            (
                Resource::Admin,
                vec!["/ping", "/logs", "/host_details", "/metrics"],
            ),
        ];
        for (resource, opened) in cases {
            for path in ["/ping", "/logs", "/host_details", "/metrics"] {
                assert_eq!(
                    claims(&[resource]).opens(path),
                    opened.contains(&path),
                    "{resource:?} {path}"
                );
            }
        }
    }
}
