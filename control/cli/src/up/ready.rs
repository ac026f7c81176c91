//! Waits for the children: their `addresses.json`, then the connector's connections; and tells how to visit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ::http::Method;
use adit_wire::HostPattern;
use anyhow::anyhow;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::rest::http::{HttpClient, Request};

/// How often we look.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// How long a child may take until it listens, and the connector until it is connected.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Control's `addresses.json`.
#[derive(Debug, Deserialize)]
pub(super) struct ControlAddresses {
    /// Address of the REST API.
    pub(super) api: String,
}

/// The edge's `addresses.json`.
#[derive(Debug, Deserialize)]
pub(super) struct EdgeAddresses {
    /// Where connectors dial.
    pub(super) tunnel: SocketAddr,
    http: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
}

#[derive(Debug, Deserialize)]
struct ConnectorAddresses {
    metrics: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Readiness {
    ready_connections: u32,
}

/// Waits until a child has written its addresses.
pub(super) async fn addresses<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let read = async || serde_json::from_slice(&tokio::fs::read(path).await.ok()?).ok();
    let late = || anyhow!("{} was not written within {START_TIME_MAX:?}", path.display());
    poll(read, late).await
}

/// Waits until the connector has `wanted` registered connections.
pub(super) async fn connections(path: &Path, wanted: u32) -> Result<(), Failure> {
    let connector: ConnectorAddresses = addresses(path).await?;
    let url = format!("http://{}/ready", connector.metrics);
    let client = HttpClient::default();
    let ask = async || {
        let request = Request {
            method: Method::GET,
            url: url.clone(),
            authorization: None,
            body: None,
        };
        let reply = client.exchange(request).await.ok()?;
        let readiness: Readiness = serde_json::from_slice(&reply.body).ok()?;
        (readiness.ready_connections >= wanted).then_some(())
    };
    let late = || anyhow!("the connector did not register {wanted} connections within {START_TIME_MAX:?}");
    poll(ask, late).await
}

async fn poll<T>(look: impl AsyncFn() -> Option<T>, late: impl Fn() -> anyhow::Error) -> Result<T, Failure> {
    let found = async {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(START_TIME_MAX, found)
        .await
        .map_err(|_| late().into())
}

impl EdgeAddresses {
    /// `ready http://app.localhost:8080`.
    pub(super) fn ready_line(&self, hostname: &HostPattern) -> String {
        let name = visited_name(hostname);
        match (self.http.first(), self.https.first()) {
            (Some(http), _) => format!("ready http://{}", with_port(&name, http.port(), 80)),
            (None, Some(https)) => format!("ready https://{}", with_port(&name, https.port(), 443)),
            (None, None) => format!("ready {name}"),
        }
    }

    /// How to ask with curl, without any name resolution.
    pub(super) fn curl_lines(&self, hostname: &HostPattern) -> Vec<String> {
        let name = visited_name(hostname);
        let http = self.http.first().map(|address| {
            let port = with_port(&reachable(*address), address.port(), 80);
            format!("  curl -H 'Host: {name}' http://{port}/")
        });
        let https = self.https.first().map(|address| {
            let (port, host) = (address.port(), reachable(*address));
            format!(
                "  curl -k --resolve {name}:{port}:{host} --http2 https://{}/",
                with_port(&name, port, 443)
            )
        });
        http.into_iter().chain(https).collect()
    }
}

/// A name below a wildcard, or the hostname itself.
fn visited_name(hostname: &HostPattern) -> String {
    let text = hostname.to_string();
    text.strip_prefix("*.")
        .map_or_else(|| text.clone(), |suffix| format!("any.{suffix}"))
}

fn with_port(host: &str, port: u16, default: u16) -> String {
    if port == default {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    }
}

/// An address a visitor on this machine can dial: a listener on all addresses is reached by loopback.
fn reachable(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) if ip.is_unspecified() => format!("[{}]", Ipv6Addr::LOCALHOST),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(http: &str, https: &str) -> EdgeAddresses {
        let text = format!(
            r#"{{"tunnel":"127.0.0.1:7844","http":["{http}"],"https":["{https}"],"admin":"127.0.0.1:1"}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_ready_line_is_an_address_for_a_browser() {
        let host: HostPattern = "app.localhost".parse().unwrap();
        let edge = edge("127.0.0.1:8080", "127.0.0.1:8443");
        assert_eq!(edge.ready_line(&host), "ready http://app.localhost:8080");
        assert_eq!(
            edge.curl_lines(&host),
            [
                "  curl -H 'Host: app.localhost' http://127.0.0.1:8080/",
                "  curl -k --resolve app.localhost:8443:127.0.0.1 --http2 https://app.localhost:8443/",
            ]
        );
    }

    #[test]
    fn usual_ports_are_left_out_and_all_addresses_mean_loopback() {
        let host: HostPattern = "*.example.test".parse().unwrap();
        let edge = edge("0.0.0.0:80", "[::]:443");
        assert_eq!(edge.ready_line(&host), "ready http://any.example.test");
        assert_eq!(
            edge.curl_lines(&host),
            [
                "  curl -H 'Host: any.example.test' http://127.0.0.1/",
                "  curl -k --resolve any.example.test:443:[::1] --http2 https://any.example.test/",
            ]
        );
    }
}
