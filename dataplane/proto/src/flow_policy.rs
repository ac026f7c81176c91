//! Which addresses a connector dials when an edge names them (private networks). Ingress rules have no say in
//! it.
//!
//! ```text
//! not enabled ─────────────────────────────────► none
//! loopback, link-local, metadata services,
//!   unspecified, multicast, broadcast ─────────► only those of `also_allow`
//! anything else ───────────────────────────────► dialled
//! ```
//! An address that stands for an IPv4 address counts as that one. Edges name addresses, never hostnames, so
//! nothing can change between the check and the dial.
//!
//! Does not: say what visitors may reach by ingress rules, which are the operator's own word.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::cidr::Cidr;

/// Networks of `also_allow`.
pub const ALSO_ALLOW_MAX: usize = 64;

/// Where clouds tell a machine its own credentials, outside of the link-local blocks.
const METADATA: [IpAddr; 3] = [
    // AWS over IPv6, which lies among unique local addresses.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    // GCP over IPv6, likewise.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Alibaba Cloud, in the block that carriers share.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
];

/// What an operator allows; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowPolicy {
    /// Whether edges may name addresses at all.
    pub is_enabled: bool,
    /// Networks whose special addresses are allowed as well.
    pub also_allow: Vec<Cidr>,
}

/// Why an address is not dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowRefusal {
    /// `warp-routing.enabled` is not set.
    #[error("private networks are not served here (warp-routing.enabled)")]
    Disabled,
    /// It is of a kind that is never dialled unless named.
    #[error("addresses of this kind are not dialled (warp-routing.also-allow)")]
    Special,
}

impl FlowPolicy {
    /// Whether an edge may have `address` dialled.
    ///
    /// # Errors
    /// [`FlowRefusal`].
    pub fn check(&self, address: IpAddr) -> Result<(), FlowRefusal> {
        if !self.is_enabled {
            return Err(FlowRefusal::Disabled);
        }
        let address = embedded(address);
        let is_named = self.also_allow.iter().any(|network| network.contains(address));
        if is_special(address) && !is_named {
            return Err(FlowRefusal::Special);
        }
        Ok(())
    }
}

/// The IPv4 address for which an IPv6 one stands: mapped, compatible, translated (RFC 6052) or 6to4 (RFC
/// 3056).
fn embedded(address: IpAddr) -> IpAddr {
    let v6 = match address.to_canonical() {
        IpAddr::V6(v6) => v6,
        v4 @ IpAddr::V4(_) => return v4,
    };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match (a, b) {
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => v4(g, h),
        (0x2002, _) => v4(b, c),
        // `::` and `::1` are themselves.
        (0, 0) if [c, d, e, f] == [0; 4] && g != 0 => v4(g, h),
        _ => v6.into(),
    }
}

fn is_special(address: IpAddr) -> bool {
    let by_kind = match address {
        IpAddr::V4(v4) => {
            // The whole of 0.0.0.0/8 means this host (RFC 1122 §3.2.1.3).
            let is_this = v4.octets()[0] == 0;
            is_this || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified() || v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast()
        }
    };
    by_kind || METADATA.contains(&address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(also_allow: &[&str]) -> FlowPolicy {
        FlowPolicy {
            is_enabled: true,
            also_allow: also_allow.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn check(policy: &FlowPolicy, text: &str) -> Result<(), FlowRefusal> {
        policy.check(text.parse().unwrap())
    }

    #[test]
    fn nothing_is_dialled_unless_it_is_enabled() {
        let off = FlowPolicy {
            also_allow: vec!["0.0.0.0/0".parse().unwrap()],
            ..FlowPolicy::default()
        };
        for address in ["10.0.0.1", "127.0.0.1", "2001:db8::1"] {
            assert_eq!(check(&off, address), Err(FlowRefusal::Disabled), "{address}");
        }
    }

    #[test]
    fn special_addresses_are_refused_in_every_form() {
        for address in [
            "127.0.0.1",
            "127.255.0.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.1.1",
            "100.100.100.200",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
        ] {
            assert_eq!(
                check(&policy(&[]), address),
                Err(FlowRefusal::Special),
                "{address}"
            );
        }
    }

    #[test]
    fn private_and_public_addresses_are_dialled() {
        for address in [
            "10.0.0.1",
            "192.168.7.7",
            "100.64.0.1",
            "8.8.8.8",
            "fd00::1",
            "2001:db8::1",
        ] {
            assert_eq!(check(&policy(&[]), address), Ok(()), "{address}");
        }
    }

    #[test]
    fn an_operator_may_name_special_networks() {
        let allowing = policy(&["127.0.0.0/8", "fe80::/10"]);
        for address in ["127.0.0.1", "::ffff:127.0.0.1", "fe80::1"] {
            assert_eq!(check(&allowing, address), Ok(()), "{address}");
        }
        for address in ["169.254.169.254", "::1"] {
            assert_eq!(check(&allowing, address), Err(FlowRefusal::Special), "{address}");
        }
    }
}
