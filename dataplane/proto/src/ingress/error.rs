//! What can be wrong with ingress rules, in cloudflared's words where it has some.

/// Most rules of one list.
pub(super) const RULES_MAX: usize = 1000;

/// Why a list of rules cannot be used. Texts begin with what operators know from cloudflared;
/// the rule's number comes after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngressError {
    /// The list is empty.
    #[error("The config file doesn't contain any ingress rules")]
    NoRules,
    /// There are more than [`RULES_MAX`] rules.
    #[error("{0} ingress rules are more than the {RULES_MAX} that are supported")]
    TooManyRules(usize),
    /// The last rule is not for everything.
    #[error("The last ingress rule must match all URLs (i.e. it should not have a hostname or path filter)")]
    LastRuleIsFiltered,
    /// A rule before the last is for everything.
    #[error(
        "Rule #{number} is matching the hostname '{hostname}', but this will match every hostname, meaning the rules which follow it will never be triggered."
    )]
    EarlyCatchAll {
        /// Counts from 1.
        number: usize,
        /// As written.
        hostname: String,
    },
    /// A rule is not valid by itself.
    #[error("{error} (rule #{number})")]
    Rule {
        /// Counts from 1.
        number: usize,
        /// What is wrong with it.
        error: Box<Self>,
    },
    /// A star stands elsewhere than at the front.
    #[error(
        "Hostname patterns can have at most one wildcard character (\"*\") and it can only be used for subdomains, e.g. \"*.example.com\""
    )]
    BadWildcard,
    /// A hostname has a port.
    #[error("Hostname cannot contain a port")]
    PortInHostname,
    /// A path is no regular expression.
    #[error("Rule #{number} has an invalid regex: {why}")]
    InvalidPath {
        /// Counts from 1.
        number: usize,
        /// What the expression's parser says.
        why: String,
    },
    /// A service is no address.
    #[error("{0} is an invalid address, please make sure it has a scheme and a hostname")]
    InvalidAddress(String),
    /// A service has a scheme that is one of HTTP's written wrong.
    #[error("{service} has the scheme {scheme}; {meant} is meant, or tcp for other services")]
    Scheme {
        /// As written.
        service: String,
        /// Its scheme in lower case.
        scheme: String,
        /// The one that is meant.
        meant: &'static str,
    },
    /// A service has a path of its own.
    #[error(
        "{0} is an invalid address, ingress rules don't support proxying to a different path on the origin service. The path will be the same as the eyeball request's path"
    )]
    PathInAddress(String),
    /// `http_status` is not within 100 to 999.
    #[error("invalid HTTP status code: {0}")]
    InvalidStatus(String),
    /// `access` has audiences and nobody who issues for them.
    #[error("access.TeamName cannot be blank when access.audTags are present")]
    AccessTeam,
    /// The place of the keys for `access` cannot be used.
    #[error("access.certsUrl {0:?} cannot be used: https is needed, or http to this machine")]
    AccessUrl(String),
    /// What a rule shall change cannot be changed so.
    #[error("{key} {value:?}: {why}")]
    Edit {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// Several addresses or their limits cannot be used as written.
    #[error("{key} {value:?}: {why}")]
    Pool {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// A rule of a `socks-proxy` is not valid.
    #[error("unable to create ip rule for socks-proxy: {0}")]
    IpRule(String),
}
