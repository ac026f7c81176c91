//! A look at the origin before anything starts: a wrong port is the usual reason for a 502.

use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};

/// How long a look may take.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Warns if the origin refuses a connection. It may be started later, so this is no error.
pub(super) async fn warn_if_down(service: &str) {
    let Some(place) = place(service) else { return };
    let connect = async {
        match &place {
            Place::Tcp(address) => TcpStream::connect(address).await.map(drop),
            Place::Unix(path) => UnixStream::connect(path).await.map(drop),
        }
    };
    let refused = match tokio::time::timeout(TIME_MAX, connect).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {TIME_MAX:?}"),
    };
    tracing::warn!(
        service,
        error = refused,
        "The origin does not take connections; visitors get status 502 until it does"
    );
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Tcp(String),
    Unix(String),
}

/// Where an origin service listens; `None` if it is built in or unknown here.
fn place(service: &str) -> Option<Place> {
    if let Some(path) = service
        .strip_prefix("unix:")
        .or_else(|| service.strip_prefix("unix+tls:"))
    {
        return Some(Place::Unix(path.to_owned()));
    }
    let (scheme, rest) = service.split_once("://")?;
    let default_port = match scheme {
        "http" | "ws" => 80,
        "https" | "wss" => 443,
        _ => return None,
    };
    let authority: ::http::uri::Authority = rest.split(['/', '?']).next()?.parse().ok()?;
    let port = authority.port_u16().unwrap_or(default_port);
    Some(Place::Tcp(format!("{}:{port}", authority.host())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_with_an_address_are_looked_at() {
        let tcp = |address: &str| Some(Place::Tcp(address.to_owned()));
        for (service, expected) in [
            ("http://127.0.0.1:8000", tcp("127.0.0.1:8000")),
            ("http://localhost/x", tcp("localhost:80")),
            ("https://[::1]", tcp("[::1]:443")),
            (
                "unix:/run/app.sock",
                Some(Place::Unix("/run/app.sock".to_owned())),
            ),
            ("hello_world", None),
            ("http_status:404", None),
        ] {
            assert_eq!(place(service), expected, "{service}");
        }
    }
}
