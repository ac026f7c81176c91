//! `/diag/…`: what somebody who looks into a problem wants to know, without secrets, for `tunnel diag`.
//!
//! Keys are cloudflared's. Absent is what its language's runtime alone knows.
//!
//! Source: cloudflared `diagnostic/handlers.go`, `diagnostic/system_collector.go`.

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::statvfs::statvfs;
use serde_json::{Map, Value, json};

use super::View;
use crate::management::host_name;
use crate::status::Protocol;

/// Most disks told of.
const DISKS_MAX: usize = 64;

/// `/diag/configuration`: the flags that are told to edges, and who runs this.
pub(super) fn configuration(view: &View) -> Value {
    let settings = &view.settings;
    let mut told: BTreeMap<&str, String> = settings.reported_flags.clone();
    // The owner of our own entry is whom we run as.
    if let Some(uid) = owner("/proc/self") {
        told.insert("uid", uid.to_string());
    }
    if let Some(log) = &settings.log_file {
        told.insert("logfile", log.display().to_string());
    }
    json!(told)
}

/// `/diag/tunnel`: who this is and what is connected.
pub(super) fn tunnel(view: &View) -> Value {
    let status = view.status.borrow();
    let connections: Vec<Value> = status
        .connections()
        .map(|(index, connection)| {
            let mut told = Map::new();
            told.insert("isConnected".to_owned(), true.into());
            // Zeros are left out, as cloudflared does: HTTP/2, and the first connection.
            if connection.protocol == Protocol::Quic {
                told.insert("protocol".to_owned(), 1.into());
            }
            told.insert(
                "edgeAddress".to_owned(),
                connection.address.ip().to_string().into(),
            );
            if index.0 > 0 {
                told.insert("index".to_owned(), index.0.into());
            }
            told.into()
        })
        .collect();
    json!({
        "tunnelID": view.settings.tunnel_id,
        "connectorID": view.settings.client.connector_id,
        "connections": connections,
        "icmp_sources": [],
    })
}

/// `/diag/system`: the machine, as its kernel tells.
pub(super) fn system() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let line = |path: &str| read(path).trim().to_owned();
    let memory = read("/proc/meminfo");
    let files = read("/proc/sys/fs/file-nr");
    let mut info = json!({
        "osSystem": line("/proc/sys/kernel/ostype"),
        "hostName": host_name(),
        "osVersion": line("/proc/sys/kernel/version"),
        "osRelease": line("/proc/sys/kernel/osrelease"),
        "architecture": std::env::consts::ARCH,
        "cloudflaredVersion": env!("CARGO_PKG_VERSION"),
        "disk": disks(&read("/proc/self/mounts")),
    });
    if let Some((total, used)) = memory_kib(&memory) {
        info["memoryMaximum"] = total.into();
        info["memoryCurrent"] = used.into();
    }
    if let Some((open, max)) = open_files(&files) {
        info["fileDescriptorMaximum"] = max.into();
        info["fileDescriptorCurrent"] = open.into();
    }
    json!({"info": info, "errors": {}})
}

/// The disks and how full they are, in KiB, from `/proc/self/mounts`.
///
/// Only block devices of this machine: to ask about a share of an unreachable server would take for ever.
fn disks(mounts: &str) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, place) = (fields.next()?, fields.next()?);
        (device.starts_with("/dev/") && seen.insert(device)).then_some((device, place))
    });
    let measured = mounted.take(DISKS_MAX).filter_map(|(device, place)| {
        let found = statvfs(place).ok()?;
        let kib = |blocks: u64| blocks.saturating_mul(found.fragment_size()) >> 10;
        Some(json!({
            "name": device,
            "sizeMaximum": kib(found.blocks()),
            "sizeCurrent": kib(found.blocks().saturating_sub(found.blocks_free())),
        }))
    });
    measured.collect()
}

/// Who owns a path.
fn owner(path: &str) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|found| found.uid())
}

/// Memory of the machine and what of it is in use, in KiB, from `/proc/meminfo`.
fn memory_kib(text: &str) -> Option<(u64, u64)> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let total = value("MemTotal:")?;
    Some((total, total.saturating_sub(value("MemAvailable:")?)))
}

/// Open files of the machine and how many there may be, from `/proc/sys/fs/file-nr`.
fn open_files(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
    let (open, _unused, max) = (numbers.next()??, numbers.next()?, numbers.next()??);
    Some((open, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_of_this_machine_are_told_once() {
        let mounts = "server:/share /mnt nfs rw 0 0\n/dev/a / ext4 rw 0 0\n/dev/a /again ext4 rw 0 0\n/dev/b /no/such x rw 0 0\n\n/dev/c";
        let found = disks(mounts);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["name"], "/dev/a");
        let size = |key: &str| found[0][key].as_u64().expect("KiB");
        assert!(size("sizeCurrent") <= size("sizeMaximum") && size("sizeMaximum") > 0);
    }

    #[test]
    fn the_kernels_words_are_understood() {
        let memory = "MemTotal:        1000 kB\nMemFree: 1 kB\nMemAvailable:     400 kB\n";
        assert_eq!(memory_kib(memory), Some((1_000, 600)));
        assert_eq!(
            open_files("1024\t0\t9223372036854775807\n"),
            Some((1_024, i64::MAX as u64))
        );
        assert_eq!(memory_kib(""), None);
        assert_eq!(open_files(""), None);
        let system = system();
        assert_eq!(system["info"]["osSystem"], "Linux");
        assert!(system["info"]["memoryMaximum"].as_u64() > Some(0));
    }
}
