//! The token of a management request, as far as a connector looks at it. Pure.
//!
//! The edge verifies its signature, for which a connector has no key. The checks here only find mistakes.
//!
//! Source: cloudflared `management/token.go`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// Longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Longest actor that is kept.
const ACTOR_BYTES_MAX: usize = 256;

/// What a token says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    /// Who asks.
    pub(super) actor: String,
}

/// There is no token, or it says too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    #[error("missing access_token query parameter")]
    Missing,
    #[error("invalid access_token query parameter")]
    Invalid,
}

impl TokenError {
    /// The code in the answer.
    pub(super) const fn code(self) -> u16 {
        match self {
            Self::Missing => 1001,
            Self::Invalid => 1002,
        }
    }
}

impl Claims {
    /// Reads the token in a query.
    pub(super) fn of_query(query: &str) -> Result<Self, TokenError> {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let token = pairs.find(|(name, _)| *name == "access_token");
        let token = token.map(|(_, token)| token).filter(|token| !token.is_empty());
        Self::parse(token.ok_or(TokenError::Missing)?).ok_or(TokenError::Invalid)
    }

    fn parse(token: &str) -> Option<Self> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let mut parts = token.split('.');
        let (header, claims) = (object(parts.next()?)?, object(parts.next()?)?);
        let (Some(_), None) = (parts.next(), parts.next()) else {
            return None;
        };
        if text(&header, "alg") != Some("ES256") {
            return None;
        }
        let inner = |name: &str| claims.get(name)?.as_object();
        let tunnel = inner("tun")?;
        let actor = text(inner("actor")?, "id")?;
        let is_whole = [text(tunnel, "id")?, text(tunnel, "account_tag")?, actor]
            .iter()
            .all(|text| !text.is_empty());
        (is_whole && actor.len() <= ACTOR_BYTES_MAX).then(|| Self {
            actor: actor.to_owned(),
        })
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(header), part(claims))
    }

    #[test]
    fn a_token_names_tunnel_account_and_actor() {
        let header = json!({"alg": "ES256"});
        let claims = json!({"tun": {"id": "t", "account_tag": "a"}, "actor": {"id": "me", "support": false}});
        let query = format!("x=1&access_token={}", token(&header, &claims));
        assert_eq!(Claims::of_query(&query).unwrap().actor, "me");
        for (path, value) in [
            ("/tun/id", json!("")),
            ("/tun/account_tag", json!(3)),
            ("/actor/id", json!("")),
            ("/actor", json!(null)),
        ] {
            let mut broken = claims.clone();
            *broken.pointer_mut(path).unwrap() = value;
            let query = format!("access_token={}", token(&header, &broken));
            assert_eq!(Claims::of_query(&query), Err(TokenError::Invalid), "{path}");
        }
        let query = format!("access_token={}", token(&json!({"alg": "none"}), &claims));
        assert_eq!(Claims::of_query(&query), Err(TokenError::Invalid));
    }

    #[test]
    fn no_token_is_told_from_a_bad_one() {
        for query in ["", "access_token", "access_token=", "token=x"] {
            assert_eq!(Claims::of_query(query), Err(TokenError::Missing), "{query}");
        }
        for query in ["access_token=x", "access_token=..", "access_token=e30.e30.e30"] {
            assert_eq!(Claims::of_query(query), Err(TokenError::Invalid), "{query}");
        }
    }
}
