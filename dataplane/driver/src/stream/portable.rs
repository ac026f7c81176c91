//! A connected socket on tokio's reactor, for machines without io_uring.
//!
//! Reads and writes go straight between the caller's memory and the socket: one system call each, plus one
//! that finds the socket empty before each wait. An idle stream holds no buffer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::chunk;

pub(crate) enum PortableStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl PortableStream {
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }

    pub(super) fn poll_read_chunk(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            ready!(match self {
                Self::Tcp(stream) => stream.poll_read_ready(cx),
                Self::Unix(stream) => stream.poll_read_ready(cx),
            })?;
            let read = chunk::read(max, |buffer| {
                let read = match self {
                    Self::Tcp(stream) => stream.try_read_buf(buffer),
                    Self::Unix(stream) => stream.try_read_buf(buffer),
                };
                match read {
                    Ok(length) => Ok(Some(length)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                    Err(error) => Err(error),
                }
            })?;
            if let Some(chunk) = read {
                return Poll::Ready(Ok((!chunk.is_empty()).then_some(chunk)));
            }
        }
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = match self {
            Self::Tcp(stream) => ready!(Pin::new(stream).poll_shutdown(cx)),
            Self::Unix(stream) => ready!(Pin::new(stream).poll_shutdown(cx)),
        };
        match shut {
            // The peer was faster; what was asked for is already the case.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}
