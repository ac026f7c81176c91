//! Lets an origin that hangs up while it is sent a request be heard first.
//!
//! An origin may answer early (413) and close without reading the rest. The kernel then resets the
//! connection: a write fails although the answer lies there to be read. HTTP gives up at the first error it
//! meets, so one of a write is held back until the reading side has come to its end, or for
//! [`LAST_WORDS_TIME`] at most.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adit_driver::time::{Sleep, sleep};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What has come is read within moments. Longer than a turn of a busy core takes.
const LAST_WORDS_TIME: Duration = Duration::from_secs(2);

/// The stream to an origin.
pub(super) struct LastWords<S> {
    stream: S,
    /// Of a write, and how long it may still be held back.
    failed: Option<(io::Error, Pin<Box<Sleep>>)>,
    /// Nothing more comes.
    has_ended: bool,
}

impl<S> LastWords<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            failed: None,
            has_ended: false,
        }
    }

    /// Passes on how a write went, but holds an error back.
    fn poll_written<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>>
    where
        S: Unpin,
    {
        if self.failed.is_none() {
            match ready!(write(Pin::new(&mut self.stream), cx)) {
                Err(error) if !self.has_ended => {
                    self.failed = Some((error, Box::pin(sleep(LAST_WORDS_TIME))));
                    // Whoever writes is to read again before it waits.
                    cx.waker().wake_by_ref();
                }
                written => return Poll::Ready(written),
            }
        }
        if !self.has_ended
            && let Some((_, time)) = &mut self.failed
        {
            ready!(time.as_mut().poll(cx));
        }
        let error = self.failed.take().map(|(error, _)| error);
        self.has_ended = true;
        Poll::Ready(Err(error.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LastWords<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut this.stream).poll_read(cx, buffer));
        if read.is_err() || buffer.filled().len() == before {
            this.has_ended = true;
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LastWords<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut()
            .poll_written(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .poll_written(cx, |stream, cx| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_written(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Says something, takes nothing, and ends when it has been heard.
    struct Deaf(&'static [u8]);

    impl AsyncRead for Deaf {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buffer.put_slice(std::mem::take(&mut self.0));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Deaf {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test);
    }

    async fn is_pending(future: &mut Pin<Box<impl Future>>) -> bool {
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }

    #[test]
    fn a_write_fails_when_all_has_been_heard_and_not_before() {
        run(async {
            let (mut reader, mut writer) = tokio::io::split(LastWords::new(Deaf(b"answer")));
            let mut writing = Box::pin(writer.write_all(b"more"));
            assert!(is_pending(&mut writing).await);
            let mut heard = [0; 6];
            reader.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"answer");
            assert!(is_pending(&mut writing).await);
            assert_eq!(reader.read(&mut heard).await.unwrap(), 0);
            let error = writing.await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert!(writer.write_all(b"more").await.is_err());
        });
    }

    #[test]
    fn who_never_reads_hears_of_it_in_time() {
        run(async {
            let mut stream = LastWords::new(Deaf(b"answer"));
            let error = stream.write_all(b"more").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        });
    }
}
