//! Which addresses and ports a `socks-proxy` may be asked for: the first rule that fits decides, and what no
//! rule fits is denied.
//!
//! Source: cloudflared `ipaccess/access.go`.

use std::net::SocketAddr;

use super::IngressError;
use crate::cidr::Cidr;

/// Most rules of one service.
pub const IP_RULES_MAX: usize = 1000;

/// A rule as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpRuleText {
    /// A block of addresses.
    pub prefix: String,
    /// Ports; empty for all.
    pub ports: Vec<u64>,
    /// Whether to allow or to deny.
    pub allow: bool,
}

/// A rule that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct IpRule {
    prefix: Cidr,
    ports: Vec<u16>,
    allow: bool,
}

/// Valid rules in order; without any, everything is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpRules(Vec<IpRule>);

impl IpRules {
    /// Parses rules.
    ///
    /// # Errors
    /// [`IngressError::IpRule`] in the words of cloudflared.
    pub fn parse(texts: &[IpRuleText]) -> Result<Self, IngressError> {
        if texts.len() > IP_RULES_MAX {
            let why = format!(
                "{} rules are more than the {IP_RULES_MAX} that are supported",
                texts.len()
            );
            return Err(IngressError::IpRule(why));
        }
        let rules: Result<Vec<_>, String> = texts.iter().map(rule).collect();
        rules.map(Self).map_err(IngressError::IpRule)
    }

    /// Whether `address` may be dialled. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn allow(&self, address: SocketAddr) -> bool {
        let fits = |rule: &&IpRule| {
            rule.prefix.contains(address.ip())
                && (rule.ports.is_empty() || rule.ports.contains(&address.port()))
        };
        self.0.iter().find(fits).is_some_and(|rule| rule.allow)
    }
}

fn rule(text: &IpRuleText) -> Result<IpRule, String> {
    if text.prefix.is_empty() {
        return Err("no prefix provided".to_owned());
    }
    let prefix = text
        .prefix
        .contains('/')
        .then(|| text.prefix.parse().ok())
        .flatten();
    let port = |port: &u64| match u16::try_from(*port) {
        Ok(port @ 1..) => Ok(port),
        Ok(0) | Err(_) => Err(format!("invalid port {port}, needs to be between 1 and 65535")),
    };
    Ok(IpRule {
        prefix: prefix.ok_or_else(|| format!("unable to parse cidr: {}", text.prefix))?,
        ports: text.ports.iter().map(port).collect::<Result<_, _>>()?,
        allow: text.allow,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(prefix: &str, ports: &[u64], allow: bool) -> IpRuleText {
        IpRuleText {
            prefix: prefix.to_owned(),
            ports: ports.to_vec(),
            allow,
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_none_denies() {
        let rules = IpRules::parse(&[
            text("10.0.0.1/32", &[], false),
            text("10.0.0.0/8", &[22, 80], true),
            text("::1/128", &[], true),
        ])
        .unwrap();
        for (address, allowed) in [
            ("10.0.0.1:22", false),
            ("10.0.0.2:22", true),
            ("[::ffff:10.0.0.2]:80", true),
            ("10.0.0.2:443", false),
            ("[::1]:9", true),
            ("192.0.2.1:22", false),
        ] {
            assert_eq!(rules.allow(address.parse().unwrap()), allowed, "{address}");
        }
        assert!(!IpRules::default().allow("10.0.0.2:22".parse().unwrap()));
    }

    #[test]
    fn bad_rules_are_refused_in_the_known_words() {
        for (rule, why) in [
            (text("", &[], true), "no prefix provided"),
            (text("1.2.3.4", &[], true), "unable to parse cidr: 1.2.3.4"),
            (text("x/8", &[], true), "unable to parse cidr: x/8"),
            (
                text("1.2.3.0/24", &[0], true),
                "invalid port 0, needs to be between 1 and 65535",
            ),
            (
                text("1.2.3.0/24", &[65536], true),
                "invalid port 65536, needs to be between 1 and 65535",
            ),
        ] {
            let error = IpRules::parse(&[rule]).unwrap_err().to_string();
            assert_eq!(error, format!("unable to create ip rule for socks-proxy: {why}"));
        }
        let many = vec![text("1.2.3.0/24", &[], true); IP_RULES_MAX + 1];
        assert!(IpRules::parse(&many).is_err());
    }
}
