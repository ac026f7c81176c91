//! Owns which origin service a request goes to: an ordered list of rules, the first match wins.
//!
//! ```text
//! RuleText (as written) ── Ingress::parse ──► Rule { host, path, service, settings } … last one matches all
//! ```
//! Rules, their errors' texts and their matching are those of cloudflared's `config.yml`.
//!
//! Does not: read files or resolve names; `adit-connector` does.
//!
//! Source: cloudflared `ingress/ingress.go`, `ingress/rule.go`.

mod error;
pub mod host;
pub mod path;
pub mod service;
pub mod url_flag;
pub mod address;
pub mod ip_rules;
pub mod access;
pub mod edits;
pub mod settings;
pub mod rule;
mod punycode;

pub use error::IngressError;
pub use rule::{Ingress, Rule, RuleText};
