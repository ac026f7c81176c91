//! A body of a given number of bytes that exists only as one block, sent again and again.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Bytes per frame: a few times what sockets take at once.
pub(crate) const BLOCK_BYTES: usize = 256 * 1024;

/// Varied bytes, so that nothing on the way can shrink them.
static BLOCK: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next)
        .take(BLOCK_BYTES / 8)
        .flatten()
        .collect()
});

/// The block.
pub(crate) fn block() -> &'static [u8] {
    &BLOCK
}

/// The body; with 0 bytes it is an empty one.
#[derive(Debug, Default)]
pub(crate) struct Filler {
    left: u64,
}

impl Filler {
    /// A body of `bytes` bytes.
    pub(crate) const fn new(bytes: u64) -> Self {
        Self { left: bytes }
    }
}

impl Body for Filler {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let size = usize::try_from(self.left).unwrap_or(usize::MAX).min(BLOCK_BYTES);
        self.left -= size as u64;
        Poll::Ready(Some(Ok(Frame::data(BLOCK.slice(..size)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
