//! The ordered list of ingress rules: validation when it is made, the first match when it is asked.
//!
//! Every list ends with a rule for everything, and no other rule is for everything, so each request has a
//! rule and each rule can be reached.
//!
//! Source: cloudflared `ingress/rule.go`, `ingress/ingress.go`.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::edits::Edits;
use super::error::{IngressError, RULES_MAX};
use super::host::{HostFilter, without_port};
use super::ip_rules::IpRules;
use super::path;
use super::service::OriginService;
use super::settings::OriginSettings;
use crate::origin_pool::settings::PoolSettings;

/// A rule as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleText {
    /// Exact, `*.suffix`, or empty for all.
    pub hostname: String,
    /// Regular expression, or empty for all.
    pub path: String,
    /// Where to.
    pub service: String,
    /// How the origin is spoken to, the file's own settings included.
    pub settings: OriginSettings,
}

/// A rule that can be matched.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Hostnames it is for.
    pub hostname: HostFilter,
    /// Searched in the decoded path; `None` is for all.
    pub path: Option<Regex>,
    /// Where its exchanges go.
    pub service: OriginService,
    /// How the origin is spoken to.
    pub settings: OriginSettings,
    /// Whom a `socks-proxy` may be asked for; nobody elsewhere.
    pub ip_rules: IpRules,
    /// What is changed on the way; `None` for nothing.
    pub edits: Option<Arc<Edits>>,
    /// Addresses and limits of the origin; `None` for one address without limits.
    pub pool: Option<Arc<PoolSettings>>,
}

/// A valid list of rules.
#[derive(Debug, Clone)]
pub struct Ingress {
    /// Never empty; the last one is for everything.
    rules: Vec<Rule>,
}

impl Ingress {
    /// Parses and validates the rules in order.
    ///
    /// # Errors
    /// The first thing wrong, as [`IngressError`].
    pub fn parse(texts: &[RuleText]) -> Result<Self, IngressError> {
        if texts.is_empty() {
            return Err(IngressError::NoRules);
        }
        if texts.len() > RULES_MAX {
            return Err(IngressError::TooManyRules(texts.len()));
        }
        let mut rules = Vec::with_capacity(texts.len());
        for (number, text) in (1..).zip(texts) {
            let rule = Rule::parse(text, number)?;
            match (rule.is_for_everything(), number == texts.len()) {
                (true, true) | (false, false) => rules.push(rule),
                (false, true) => return Err(IngressError::LastRuleIsFiltered),
                (true, false) => {
                    return Err(IngressError::EarlyCatchAll {
                        number,
                        hostname: text.hostname.clone(),
                    });
                }
            }
        }
        Ok(Self { rules })
    }

    /// A list with one rule, which sends everything to `service`.
    pub fn single(service: OriginService, settings: OriginSettings) -> Self {
        let rule = Rule {
            hostname: HostFilter::Any,
            path: None,
            service,
            settings,
            ip_rules: IpRules::default(),
            edits: None,
            pool: None,
        };
        Self { rules: vec![rule] }
    }

    /// Position and rule of a request, given its Host header and its path, with or without query.
    pub fn find(&self, host: &str, path: &str) -> (usize, &Rule) {
        let host = without_port(host);
        let path = path::decode(path);
        let mut rules = self.rules.iter().enumerate();
        rules
            .find(|(_, rule)| rule.matches(host, &path))
            .expect("the last rule is for everything")
    }

    /// The rules in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

impl Rule {
    fn parse(text: &RuleText, number: usize) -> Result<Self, IngressError> {
        let in_rule = |error| IngressError::Rule {
            number,
            error: Box::new(error),
        };
        let service = if text.settings.bastion_mode {
            OriginService::parse_bastion(&text.service).map_err(in_rule)?
        } else {
            OriginService::parse(&text.service).map_err(in_rule)?
        };
        let ip_rules = match service {
            OriginService::SocksProxy => IpRules::parse(&text.settings.ip_rules).map_err(in_rule)?,
            OriginService::Http { .. }
            | OriginService::Unix { .. }
            | OriginService::Tcp { .. }
            | OriginService::Bastion
            | OriginService::Status(_)
            | OriginService::HelloWorld => IpRules::default(),
        };
        if let Some(access) = &text.settings.access {
            access.check().map_err(in_rule)?;
        }
        let edits = Edits::parse(&text.settings.edits).map_err(in_rule)?;
        let pool = PoolSettings::parse(&text.settings.pool, &service).map_err(in_rule)?;
        let hostname = HostFilter::parse(&text.hostname).map_err(in_rule)?;
        let path = (!text.path.is_empty()).then(|| {
            let mut builder = RegexBuilder::new(&text.path);
            builder.size_limit(path::PROGRAM_BYTES_MAX).build()
        });
        let path = path.transpose().map_err(|error| IngressError::InvalidPath {
            number,
            why: error.to_string(),
        })?;
        Ok(Self {
            hostname,
            path,
            service,
            settings: text.settings.clone(),
            ip_rules,
            edits: edits.map(Arc::new),
            pool: pool.map(Arc::new),
        })
    }

    fn is_for_everything(&self) -> bool {
        self.hostname == HostFilter::Any && self.path.is_none()
    }

    fn matches(&self, host: &str, path: &str) -> bool {
        self.hostname.matches(host)
            && self
                .path
                .as_ref()
                .is_none_or(|expression| expression.is_match(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(rules: &[(&str, &str, &str)]) -> Vec<RuleText> {
        let text = |&(hostname, path, service): &(&str, &str, &str)| RuleText {
            hostname: hostname.to_owned(),
            path: path.to_owned(),
            service: service.to_owned(),
            settings: OriginSettings::default(),
        };
        rules.iter().map(text).collect()
    }

    #[test]
    fn the_first_matching_rule_is_found_and_the_last_is_for_the_rest() {
        let ingress = Ingress::parse(&texts(&[
            ("app.example.com", "^/api", "http://a"),
            ("*.example.com", "", "http://b"),
            ("", r"\.jpg$", "http://c"),
            ("*", "", "http_status:404"),
        ]))
        .unwrap();
        for (host, path, expected) in [
            ("app.example.com", "/api/x", 0),
            ("app.example.com:8443", "/api?y", 0),
            ("app.example.com", "/%61pi", 0),
            ("app.example.com", "/x/api", 1),
            ("a.b.example.com", "/", 1),
            ("other.com", "/a.jpg?size=1", 2),
            ("other.com", "/a?b=.jpg", 3),
        ] {
            assert_eq!(ingress.find(host, path).0, expected, "{host}{path}");
        }
        assert_eq!(ingress.rules().len(), 4);
        assert_eq!(ingress.find("x", "/").1.service, OriginService::Status(404));
    }

    fn check(rules: &[(&str, &str, &str)], expected: &str) {
        let error = Ingress::parse(&texts(rules)).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn bastion_mode_takes_the_place_of_an_address() {
        let mut rule = texts(&[("", "", "not an address")]);
        rule[0].settings.bastion_mode = true;
        for (service, wanted) in [
            ("not an address", OriginService::Bastion),
            ("tcp://a:1", OriginService::Bastion),
            ("http_status:418", OriginService::Status(418)),
            ("socks-proxy", OriginService::SocksProxy),
        ] {
            service.clone_into(&mut rule[0].service);
            assert_eq!(Ingress::parse(&rule).unwrap().find("x", "/").1.service, wanted);
        }
    }

    #[test]
    fn bad_lists_are_refused_in_the_known_words() {
        check(&[], "The config file doesn't contain any ingress rules");
        let last =
            "The last ingress rule must match all URLs (i.e. it should not have a hostname or path filter)";
        check(&[("a.com", "", "http://a")], last);
        check(&[("", "/x", "http://a")], last);
        check(
            &[("*", "", "http://a"), ("", "", "http://b")],
            "Rule #1 is matching the hostname '*', but this will match every hostname, meaning the rules which follow it will never be triggered.",
        );
        check(
            &[("a.*.com", "", "http://a"), ("", "", "http://b")],
            "Hostname patterns can have at most one wildcard character (\"*\") and it can only be used for subdomains, e.g. \"*.example.com\" (rule #1)",
        );
        check(
            &[("a.com:80", "", "http://a")],
            "Hostname cannot contain a port (rule #1)",
        );
        check(
            &[
                ("a", "", "http://a"),
                ("b", "(", "http://a"),
                ("", "", "http://b"),
            ],
            "Rule #2 has an invalid regex: ",
        );
    }
}
