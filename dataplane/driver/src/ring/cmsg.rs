//! Reads the control data of a received UDP batch: segment size, ECN mark, local address.
//!
//! Pure over bytes: the kernel's layout is `cmsghdr{len: usize, level: i32, type: i32}` then data, each
//! message aligned to 8 bytes. Damaged or unknown messages are skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the control messages of one batch say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Control {
    pub(crate) segment_bytes: Option<usize>,
    pub(crate) ecn_bits: u8,
    pub(crate) to_ip: Option<IpAddr>,
}

const HEADER_BYTES: usize = 16;
const UDP_GRO: i32 = 104;

/// Room for GRO size, ECN mark and packet info of either family.
pub(crate) const CONTROL_BYTES: usize = 128;

pub(crate) fn parse(mut control: &[u8]) -> Control {
    let mut found = Control::default();
    while let Some((header, _)) = control.split_first_chunk::<HEADER_BYTES>() {
        let Some((length, level, kind)) = header_of(header) else {
            break;
        };
        let Some(data) = control.get(HEADER_BYTES..length) else {
            break;
        };
        read_one(level, kind, data, &mut found);
        match control.get(length.next_multiple_of(8)..) {
            Some(rest) => control = rest,
            None => break,
        }
    }
    found
}

fn header_of(header: &[u8; HEADER_BYTES]) -> Option<(usize, i32, i32)> {
    let length = usize::from_ne_bytes(header.get(..8)?.try_into().ok()?);
    let level = i32::from_ne_bytes(header.get(8..12)?.try_into().ok()?);
    let kind = i32::from_ne_bytes(header.get(12..16)?.try_into().ok()?);
    (length >= HEADER_BYTES).then_some((length, level, kind))
}

fn read_one(level: i32, kind: i32, data: &[u8], found: &mut Control) {
    match (level, kind) {
        (libc::SOL_UDP, UDP_GRO) => {
            found.segment_bytes = int(data).and_then(|size| usize::try_from(size).ok());
        }
        // The mark arrives as one byte for IPv4 and as an int for IPv6.
        (libc::IPPROTO_IP, libc::IP_TOS) => found.ecn_bits = data.first().map_or(0, |tos| tos & 0b11),
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
            found.ecn_bits = int(data).map_or(0, |class| (class & 0b11) as u8);
        }
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            if let Some(ip) = data.get(8..12).and_then(|ip| <[u8; 4]>::try_from(ip).ok()) {
                found.to_ip = Some(IpAddr::V4(Ipv4Addr::from(ip)));
            }
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            if let Some(ip) = data.first_chunk::<16>() {
                found.to_ip = Some(IpAddr::V6(Ipv6Addr::from(*ip)));
            }
        }
        _ => {}
    }
}

fn int(data: &[u8]) -> Option<i32> {
    data.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes))
}

/// Reads a `sockaddr_in` or `sockaddr_in6`.
pub(crate) fn address(name: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*name.first_chunk::<2>()?));
    let port = u16::from_be_bytes(name.get(2..4)?.try_into().ok()?);
    match family {
        libc::AF_INET => {
            let ip: [u8; 4] = name.get(4..8)?.try_into().ok()?;
            Some(SocketAddr::from((ip, port)))
        }
        libc::AF_INET6 => {
            let flow = u32::from_be_bytes(name.get(4..8)?.try_into().ok()?);
            let ip: [u8; 16] = name.get(8..24)?.try_into().ok()?;
            let scope = u32::from_ne_bytes(name.get(24..28)?.try_into().ok()?);
            Some(std::net::SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut out = (HEADER_BYTES + data.len()).to_ne_bytes().to_vec();
        out.extend(level.to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend(data);
        out.resize(out.len().next_multiple_of(8), 0);
        out
    }

    #[test]
    fn all_three_messages_are_read_in_any_order() {
        let mut control = message(libc::IPPROTO_IP, libc::IP_TOS, &[0b10]);
        control.extend(message(libc::SOL_UDP, UDP_GRO, &1452i32.to_ne_bytes()));
        control.extend(message(
            libc::IPPROTO_IP,
            libc::IP_PKTINFO,
            &[1, 0, 0, 0, 9, 9, 9, 9, 127, 0, 0, 1],
        ));
        let found = parse(&control);
        assert_eq!(
            found,
            Control {
                segment_bytes: Some(1452),
                ecn_bits: 2,
                to_ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
            }
        );
    }

    #[test]
    fn damaged_control_data_yields_nothing_and_ends() {
        for length in [0usize, 1, 15, 17, usize::MAX] {
            let mut control = message(libc::SOL_UDP, UDP_GRO, &[0; 4]);
            control[..8].copy_from_slice(&length.to_ne_bytes());
            let _ = parse(&control);
        }
        assert_eq!(parse(&[1, 2, 3]), Control::default());
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        let mut v4 = (libc::AF_INET as u16).to_ne_bytes().to_vec();
        v4.extend([0x1f, 0x90, 10, 0, 0, 1]);
        assert_eq!(address(&v4), Some("10.0.0.1:8080".parse().unwrap()));
        let mut v6 = (libc::AF_INET6 as u16).to_ne_bytes().to_vec();
        v6.extend([0x1f, 0x90, 0, 0, 0, 0]);
        v6.extend(Ipv6Addr::LOCALHOST.octets());
        v6.extend([0; 4]);
        assert_eq!(address(&v6), Some("[::1]:8080".parse().unwrap()));
        assert_eq!(address(&v6[..20]), None);
    }
}
