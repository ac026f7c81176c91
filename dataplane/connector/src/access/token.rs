//! A JSON Web Token: its parts, and what it claims. Pure.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::AccessError;

/// Longest token that is looked at; headers are limited to a few times that.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Published keys that are looked at.
const KEYS_MAX: usize = 64;

/// How far ahead the issuer's clock may be.
const CLOCK_SKEW_SECONDS: u64 = 300;

/// A token whose signature has not been checked.
pub(super) struct Token<'a> {
    /// The id of the key that has signed it.
    pub(super) key_id: Option<String>,
    algorithm: Algorithm,
    claims: Map<String, Value>,
    signed: &'a [u8],
    signature: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Rs256,
    Es256,
}

/// A published key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    id: Option<String>,
    public: Public,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Public {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// An uncompressed point on P-256.
    P256(Vec<u8>),
}

impl<'a> Token<'a> {
    /// Takes the three parts of `text` apart.
    pub(super) fn parse(text: &'a str) -> Result<Self, AccessError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(AccessError::Malformed("it is too long"));
        }
        let parts = text.rsplit_once('.');
        let (signed, signature) = parts.ok_or(AccessError::Malformed("it has no signature"))?;
        let parts = signed.split_once('.');
        let (header, claims) = parts.ok_or(AccessError::Malformed("it has no claims"))?;
        let header = object(header).ok_or(AccessError::Malformed("its header is no JSON"))?;
        let algorithm = match header.get("alg").and_then(Value::as_str) {
            Some("RS256") => Algorithm::Rs256,
            Some("ES256") => Algorithm::Es256,
            other => return Err(AccessError::Algorithm(other.unwrap_or("none").to_owned())),
        };
        let key_id = header.get("kid").and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            key_id,
            algorithm,
            claims: object(claims).ok_or(AccessError::Malformed("its claims are no JSON"))?,
            signed: signed.as_bytes(),
            signature: decode(signature).ok_or(AccessError::Malformed("its signature is no base64"))?,
        })
    }

    /// Whether it says what it must, at a time in seconds since 1970.
    pub(super) fn check_claims(
        &self,
        issuer: &str,
        audiences: &[String],
        now: u64,
    ) -> Result<(), AccessError> {
        let said = self.claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        if said != issuer {
            return Err(AccessError::Issuer(said.to_owned()));
        }
        let is_expired = self.seconds("exp").is_none_or(|expiry| now >= expiry);
        let is_early = self
            .seconds("nbf")
            .is_some_and(|start| now.saturating_add(CLOCK_SKEW_SECONDS) < start);
        if is_expired || is_early {
            return Err(AccessError::Time);
        }
        let is_meant = |audience: &Value| {
            let audience = audience.as_str();
            audiences.iter().any(|wanted| audience == Some(wanted))
        };
        let is_for_us = match self.claims.get("aud") {
            Some(Value::Array(several)) => several.iter().any(is_meant),
            Some(one) => is_meant(one),
            None => false,
        };
        is_for_us.then_some(()).ok_or(AccessError::Audience)
    }

    /// A point in time; a fraction of a second is cut off.
    fn seconds(&self, claim: &str) -> Option<u64> {
        let value = self.claims.get(claim)?;
        // From a float, `as` takes what is out of range for the nearest that is in range.
        value
            .as_u64()
            .or_else(|| value.as_f64().map(|seconds| seconds as u64))
    }
}

impl Key {
    /// The keys of a published set that can be used; others are left out.
    pub(super) fn read_all(json: &[u8]) -> Option<Vec<Self>> {
        let document: Value = serde_json::from_slice(json).ok()?;
        let keys = document.get("keys")?.as_array()?;
        Some(keys.iter().filter_map(Self::read).take(KEYS_MAX).collect())
    }

    fn read(key: &Value) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let bytes = |name: &str| text(name).and_then(decode);
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let public = match text("kty")? {
            "RSA" => Public::Rsa {
                // Some issuers write it with a sign.
                modulus: bytes("n")?.into_iter().skip_while(|&byte| byte == 0).collect(),
                exponent: bytes("e")?,
            },
            "EC" if text("crv") == Some("P-256") => {
                Public::P256([vec![4], bytes("x")?, bytes("y")?].concat())
            }
            _ => return None,
        };
        Some(Self {
            id: text("kid").map(str::to_owned),
            public,
        })
    }

    /// Whether it may have signed `token`, by its name.
    pub(super) fn is_named_by(&self, token: &Token<'_>) -> bool {
        token.key_id.is_none() || token.key_id == self.id
    }

    /// Whether it has signed `token`.
    pub(super) fn has_signed(&self, token: &Token<'_>) -> bool {
        match (&self.public, token.algorithm) {
            (Public::Rsa { modulus, exponent }, Algorithm::Rs256) => {
                let key = RsaPublicKeyComponents {
                    n: modulus.as_slice(),
                    e: exponent.as_slice(),
                };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, token.signed, &token.signature)
                    .is_ok()
            }
            (Public::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .verify(token.signed, &token.signature)
                    .is_ok()
            }
            (Public::Rsa { .. }, Algorithm::Es256) | (Public::P256(_), Algorithm::Rs256) => false,
        }
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&decode(part)?).ok()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    fn encode(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    struct Issuer(EcdsaKeyPair);

    impl Issuer {
        fn new() -> Self {
            Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
        }

        fn published(&self) -> Vec<Key> {
            let point = self.0.public_key().as_ref();
            let part = |range| URL_SAFE_NO_PAD.encode(&point[range]);
            let set = json!({"keys": [
                {"kty": "oct", "kid": "a", "k": "AAAA"},
                {"kty": "EC", "crv": "P-256", "kid": "a", "use": "sig", "x": part(1..33), "y": part(33..65)},
            ]});
            Key::read_all(set.to_string().as_bytes()).unwrap()
        }

        fn sign(&self, header: &Value, claims: &Value) -> String {
            let signed = format!("{}.{}", encode(header), encode(claims));
            let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
        }
    }

    #[test]
    fn a_signature_is_of_its_key_and_its_text() {
        let (issuer, other) = (Issuer::new(), Issuer::new());
        let keys = issuer.published();
        assert_eq!(keys.len(), 1);
        let header = json!({"alg": "ES256", "kid": "a"});
        let text = issuer.sign(&header, &json!({"iss": "x"}));
        let token = Token::parse(&text).unwrap();
        assert!(keys[0].is_named_by(&token) && keys[0].has_signed(&token));
        assert!(!other.published()[0].has_signed(&token));
        let forged = text.replacen(&encode(&json!({"iss": "x"})), &encode(&json!({"iss": "y"})), 1);
        assert!(!keys[0].has_signed(&Token::parse(&forged).unwrap()));
        let unnamed = issuer.sign(&json!({"alg": "ES256", "kid": "b"}), &json!({}));
        assert!(!keys[0].is_named_by(&Token::parse(&unnamed).unwrap()));
    }

    #[test]
    fn tokens_without_a_signature_or_parts_are_none() {
        let issuer = Issuer::new();
        for header in [json!({"alg": "none"}), json!({"alg": "HS256"}), json!({})] {
            let text = issuer.sign(&header, &json!({}));
            assert!(matches!(Token::parse(&text), Err(AccessError::Algorithm(_))));
        }
        for text in ["", ".", "..", "a.b.c", "e30.e30", "e30.e30.e30.e30"] {
            assert!(Token::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn claims_are_about_issuer_time_and_audience() {
        let issuer = Issuer::new();
        let check = |claims: Value| {
            let text = issuer.sign(&json!({"alg": "ES256"}), &claims);
            let audiences = ["one".to_owned(), "two".to_owned()];
            let checked = Token::parse(&text).unwrap().check_claims("x", &audiences, 1000);
            checked.map_err(|error| error.to_string())
        };
        let good = json!({"iss": "x", "exp": 1001, "aud": ["zero", "two"]});
        assert_eq!(check(good.clone()), Ok(()));
        let with = |key: &str, value: Value| {
            let mut claims = good.clone();
            claims[key] = value;
            check(claims)
        };
        assert_eq!(with("aud", json!("one")), Ok(()));
        assert_eq!(with("exp", json!(1000.5e3)), Ok(()));
        assert_eq!(with("nbf", json!(1300)), Ok(()));
        for (key, value, complaint) in [
            ("iss", json!("y"), "issuer: y"),
            ("exp", json!(1000), "valid"),
            ("exp", Value::Null, "valid"),
            ("exp", json!(-1), "valid"),
            ("nbf", json!(1301), "valid"),
            ("aud", json!(["zero"]), "audience"),
            ("aud", json!([]), "audience"),
            ("aud", Value::Null, "audience"),
        ] {
            let error = with(key, value).unwrap_err();
            assert!(error.contains(complaint), "{key}: {error}");
        }
    }
}
