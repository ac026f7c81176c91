//! Idle connections: each is opened, asked one request, and then kept.

use anyhow::{Context as _, Result, ensure};
use http::Method;
use tokio::task::JoinSet;

use crate::args::Hold;
use crate::report;
use crate::sender::Connection;
use crate::target::Target;

/// Connections being opened at once: enough to keep the other side busy, too few to overflow its queue.
const OPENING_MAX: usize = 32;

/// Opens the connections, says so on standard output, and keeps them.
pub(crate) fn run(hold: &Hold) -> Result<()> {
    let target = Target::resolve(&hold.to)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start a runtime")?.block_on(async {
        let mut opened = Vec::new();
        let mut opening = JoinSet::new();
        for _ in 0..hold.connections {
            let target = target.clone();
            opening.spawn(async move {
                let connection = Connection::open(target).await?;
                let answer = connection.exchange(Method::GET, 0).await?;
                ensure!(answer.status == 200, "the answer has status {}", answer.status);
                anyhow::Ok(connection)
            });
            if opening.len() >= OPENING_MAX {
                opened.extend(opening.join_next().await.transpose()?.transpose()?);
            }
        }
        while let Some(connection) = opening.join_next().await {
            opened.push(connection??);
        }
        report::print(&format!("holding {} connections\n", opened.len()))?;
        tokio::time::sleep(hold.duration).await;
        Ok(())
    })
}
