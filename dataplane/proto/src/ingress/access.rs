//! Whose tokens open a rule: the key `access` of `originRequest`.
//!
//! `issuer` and `certsUrl` are keys of ours; without them both follow from the team, as in cloudflared.
//!
//! Source: cloudflared `ingress/ingress.go`, `ingress/middleware/jwtvalidator.go`.

use std::net::IpAddr;

use http::Uri;

use super::IngressError;

/// What a rule demands of a request's token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessSettings {
    /// Whether anything is demanded at all.
    pub is_required: bool,
    /// Names the issuer, unless that is given.
    pub team_name: String,
    /// `fed`, or empty for the usual one.
    pub environment: String,
    /// One of them must be among the token's.
    pub audiences: Vec<String>,
    /// As tokens name it; empty for that of the team.
    pub issuer: String,
    /// Where the issuer publishes its keys; empty for the usual place.
    pub certs_url: String,
}

impl AccessSettings {
    /// The issuer that tokens must name; `None` if nobody said.
    pub fn issuer(&self) -> Option<String> {
        if !self.issuer.is_empty() {
            return Some(self.issuer.trim_end_matches('/').to_owned());
        }
        if self.team_name.is_empty() {
            return None;
        }
        let domain = if self.environment == "fed" {
            "fed.cloudflareaccess.com"
        } else {
            "cloudflareaccess.com"
        };
        Some(format!("https://{}.{domain}", self.team_name))
    }

    /// Where its keys are; `None` if nobody said.
    pub fn certs_url(&self) -> Option<Uri> {
        if !self.certs_url.is_empty() {
            return self.certs_url.parse().ok();
        }
        let issuer = self.issuer()?;
        format!("{issuer}/cdn-cgi/access/certs").parse().ok()
    }

    /// Whether it makes sense. Nothing but `required` is allowed, and lets nobody through.
    ///
    /// # Errors
    /// [`IngressError::AccessTeam`], [`IngressError::AccessUrl`].
    pub fn check(&self) -> Result<(), IngressError> {
        if !self.is_required {
            return Ok(());
        }
        if self.issuer().is_none() && !self.audiences.is_empty() {
            return Err(IngressError::AccessTeam);
        }
        let is_given = !self.certs_url.is_empty() || self.issuer().is_some();
        if !is_given || self.certs_url().as_ref().is_some_and(is_private) {
            return Ok(());
        }
        let url = if self.certs_url.is_empty() {
            self.issuer().unwrap_or_default()
        } else {
            self.certs_url.clone()
        };
        Err(IngressError::AccessUrl(url))
    }
}

/// Whether nobody on the way can change what comes from `url`.
fn is_private(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    match url.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => {
            let address = host.trim_start_matches('[').trim_end_matches(']').parse();
            host == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
        }
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuer_and_keys_follow_from_the_team_unless_given() {
        let team = AccessSettings {
            is_required: true,
            team_name: "team".to_owned(),
            ..AccessSettings::default()
        };
        assert_eq!(team.issuer().unwrap(), "https://team.cloudflareaccess.com");
        assert_eq!(
            team.certs_url().unwrap(),
            "https://team.cloudflareaccess.com/cdn-cgi/access/certs"
        );
        let fed = AccessSettings {
            environment: "fed".to_owned(),
            ..team
        };
        assert_eq!(fed.issuer().unwrap(), "https://team.fed.cloudflareaccess.com");
        let own = AccessSettings {
            issuer: "https://id.test/".to_owned(),
            certs_url: "https://id.test/keys?x".to_owned(),
            ..fed
        };
        assert_eq!(own.issuer().unwrap(), "https://id.test");
        assert_eq!(own.certs_url().unwrap(), "https://id.test/keys?x");
        assert_eq!(own.check(), Ok(()));
    }

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        let check = |url: &str| {
            let settings = AccessSettings {
                is_required: true,
                issuer: "x".to_owned(),
                certs_url: url.to_owned(),
                ..AccessSettings::default()
            };
            settings.check().is_ok()
        };
        assert!(check("https://id.test/keys") && check("http://127.0.0.1:1/") && check("http://[::1]/"));
        assert!(!check("http://id.test/keys") && !check("file:///keys") && !check("id.test") && !check("?"));
        let nobody = AccessSettings {
            is_required: true,
            ..AccessSettings::default()
        };
        assert_eq!(nobody.check(), Ok(()));
        let forgotten = AccessSettings {
            audiences: vec!["a".to_owned()],
            ..nobody
        };
        assert_eq!(forgotten.check(), Err(IngressError::AccessTeam));
    }
}
