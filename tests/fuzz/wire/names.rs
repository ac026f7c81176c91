//! Hostnames, patterns and ids as text.

use adit_wire::hostname::{HOSTNAME_BYTES_MAX, HostPattern, Hostname};
use adit_wire::ids::{AccountTag, ConnIndex, TunnelId};

use crate::engine::{Target, run};

#[test]
fn hostname() {
    run(&Target {
        name: "hostname",
        memory: super::SMALL,
        check: |input| {
            let text = String::from_utf8_lossy(input);
            for name in [text.parse::<Hostname>(), Hostname::from_authority(&text)]
                .into_iter()
                .flatten()
            {
                assert!(name.as_str().len() <= HOSTNAME_BYTES_MAX);
                assert!(!name.as_str().bytes().any(|byte| byte.is_ascii_uppercase()));
                assert_eq!(name.as_str().parse::<Hostname>().as_ref(), Ok(&name));
                assert_eq!(
                    Hostname::from_authority(&format!("{name}:443")).as_ref(),
                    Ok(&name)
                );
                assert!(HostPattern::from(name.clone()).matches(&name));
                for parent in name.parents() {
                    let wildcard: HostPattern =
                        format!("*.{parent}").parse().expect("a parent is a hostname");
                    assert!(wildcard.matches(&name));
                }
            }
            if let Ok(pattern) = text.parse::<HostPattern>() {
                assert_eq!(pattern.to_string().parse::<HostPattern>(), Ok(pattern));
            }
        },
    });
}

#[test]
fn ids() {
    run(&Target {
        name: "ids",
        memory: super::SMALL,
        check: |input| {
            let text = String::from_utf8_lossy(input);
            if let Ok(id) = text.parse::<TunnelId>() {
                assert_eq!(id.to_string().parse(), Ok(id));
            }
            if let Ok(tag) = text.parse::<AccountTag>() {
                assert_eq!(tag.to_string().parse(), Ok(tag));
            }
            if let Ok(index) = text.parse::<ConnIndex>() {
                assert_eq!(index.to_string().parse(), Ok(index));
            }
        },
    });
}
