//! `tunnel ready`: asks a running connector whether it has connections.

use ::http::Method;
use anyhow::{Context as _, anyhow};

use crate::args::leaf::Chosen;
use crate::failure::Failure;
use crate::rest::http::{HttpClient, Request};

/// Succeeds if the connector at `--metrics` says it is ready.
pub(super) async fn run(chosen: &Chosen<'_>) -> Result<(), Failure> {
    let Some(address) = chosen.tunnel.text("metrics") else {
        let error = anyhow!("--metrics has to be provided");
        return Err(Failure::from(error).next("adit tunnel --metrics 127.0.0.1:20241 ready"));
    };
    let url = format!("http://{address}/ready");
    let request = Request {
        method: Method::GET,
        url: url.clone(),
        authorization: None,
        body: None,
    };
    let reply = HttpClient::default().exchange(request).await;
    let reply = reply.with_context(|| format!("cannot ask {url}"))?;
    if reply.status == 200 {
        return Ok(());
    }
    Err(anyhow!(
        "{url} endpoint returned status code {}\n{}",
        reply.status,
        String::from_utf8_lossy(&reply.body)
    )
    .into())
}
