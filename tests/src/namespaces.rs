//! Several hosts on one machine: network namespaces joined by a bridge, each with its own address and link.
//!
//! Needs root and iproute2. Everything is named after this process, lives outside the machine's own network,
//! and is removed on drop.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::process::command;

/// Hosts of one network, at most: they share one /24.
const HOSTS_MAX: u8 = 200;

/// A bridge with hosts on it.
#[derive(Debug)]
pub struct Network {
    switch: String,
    hosts: Vec<Host>,
}

/// One host.
#[derive(Debug)]
pub struct Host {
    namespace: String,
    switch: String,
    port: String,
    /// Its address.
    pub address: IpAddr,
}

impl Network {
    /// Makes `count` hosts that reach each other.
    ///
    /// # Errors
    /// Why this machine cannot have them, in words for a skipped test.
    pub fn create(count: u8) -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            return Err("network namespaces need root".to_owned());
        }
        assert!(count <= HOSTS_MAX, "{count} hosts do not fit the network");
        let name = format!("adit{}x{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let mut network = Self {
            switch: format!("{name}sw"),
            hosts: Vec::new(),
        };
        ip(&["netns", "add", &network.switch])?;
        within(&network.switch, &["link", "add", "bridge", "type", "bridge"])?;
        within(&network.switch, &["link", "set", "bridge", "up"])?;
        for number in 1..=count {
            let host = Host {
                namespace: format!("{name}h{number}"),
                switch: network.switch.clone(),
                port: format!("port{number}"),
                address: Ipv4Addr::new(10, 77, 0, number).into(),
            };
            ip(&["netns", "add", &host.namespace])?;
            network.hosts.push(host);
            let host = network.hosts.last().expect("just pushed");
            within(
                &host.switch,
                &[
                    "link",
                    "add",
                    &host.port,
                    "type",
                    "veth",
                    "peer",
                    "eth0",
                    "netns",
                    &host.namespace,
                ],
            )?;
            within(
                &host.switch,
                &["link", "set", &host.port, "master", "bridge", "up"],
            )?;
            within(
                &host.namespace,
                &["addr", "add", &format!("{}/24", host.address), "dev", "eth0"],
            )?;
            within(&host.namespace, &["link", "set", "eth0", "up"])?;
            within(&host.namespace, &["link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    /// The hosts, in order.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &self.hosts {
            // Nothing to do about a namespace that cannot be removed.
            ip(&["netns", "delete", &host.namespace]).ok();
        }
        ip(&["netns", "delete", &self.switch]).ok();
    }
}

impl Host {
    /// Prepares a command that runs on this host and dies with the thread that starts it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut on_host = command("ip");
        on_host.args(["netns", "exec", &self.namespace]).arg(program);
        on_host
    }

    /// Cuts or mends the host's link.
    ///
    /// # Panics
    /// When the link cannot be set.
    pub fn set_link(&self, is_up: bool) {
        let state = if is_up { "up" } else { "down" };
        within(&self.switch, &["link", "set", &self.port, state]).expect("our own link can be set");
    }
}

fn within(namespace: &str, arguments: &[&str]) -> Result<(), String> {
    ip(&[&["-n", namespace], arguments].concat())
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|error| format!("ip (iproute2): {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("ip {}: {}", arguments.join(" "), text.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary;

    #[test]
    fn hosts_reach_each_other_until_a_link_is_cut() {
        let network = match Network::create(2) {
            Ok(network) => network,
            Err(why) => return binary::skipped("hosts_reach_each_other_until_a_link_is_cut", &why),
        };
        let [first, second] = network.hosts() else {
            panic!("two hosts")
        };
        let address = second.address.to_string();
        // A port where nobody listens is refused at once by a host that is reached, and silent otherwise.
        let probe = || {
            let url = format!("http://{address}:9/");
            let mut curl = first.command("curl");
            binary::output(curl.args(["-sS", "--noproxy", "*", "--max-time", "1", &url]))
                .status
                .code()
        };
        crate::deadline::until_true("the second host to answer", crate::deadline::STEP, || {
            probe() == Some(7)
        });
        second.set_link(false);
        assert_ne!(probe(), Some(7));
    }
}
