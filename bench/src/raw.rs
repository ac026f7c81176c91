//! Bare byte streams, as after an upgrade: so many bytes out, so many bytes in.

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::filler::{BLOCK_BYTES, block};

/// Writes `bytes` bytes.
pub(crate) async fn write(io: &mut (impl AsyncWrite + Unpin), bytes: u64) -> Result<()> {
    let mut left = bytes;
    while left > 0 {
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK_BYTES);
        io.write_all(&block()[..size]).await.context("cannot write")?;
        left -= size as u64;
    }
    io.flush().await.context("cannot write")
}

/// Reads exactly `bytes` bytes.
pub(crate) async fn read(io: &mut (impl AsyncRead + Unpin), bytes: u64) -> Result<()> {
    let mut buffer = vec![0; BLOCK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK_BYTES);
        let size = io.read(&mut buffer[..most]).await.context("cannot read")?;
        ensure!(size > 0, "the stream ended with {left} of {bytes} bytes to come");
        left -= size as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_bytes_arrive_as_were_sent_and_too_few_are_noticed() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut one, mut other) = tokio::io::duplex(1 << 16);
            let (sent, got) = tokio::join!(write(&mut one, 700_000), read(&mut other, 700_000));
            assert!(sent.is_ok() && got.is_ok());
            write(&mut one, 5).await.unwrap();
            drop(one);
            assert!(read(&mut other, 6).await.is_err());
        });
    }
}
