//! Answers, counts and logs requests that never become one for hyper.
//!
//! The connection ends with the answer: where the next request would begin is not known.

use std::rc::Rc;

use adit_driver::time::timeout;
use adit_proto::exchange::edge::{RequestId, Visitor};
use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::frame_watch::Flood;
use adit_proto::request_head::{self, Fault};
use adit_proto::sent_frames::Code;
use http::Version;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::http1::{LINGER_TIME, linger};
use super::io::PublicIo;
use crate::access_log::Protocol;
use crate::core::Core;
use crate::error_page;
use crate::exchange_task::refuse;

/// Ends a connection whose last head was refused or never came to its end.
pub(super) async fn end<S>(core: &Rc<Core>, mut io: PublicIo<S>, visitor: Visitor, code: ErrorCode)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let head = io
        .refused()
        .map(|(_, head)| head)
        .or_else(|| io.unfinished_head());
    let (method, target) = request_head::request_line(head.unwrap_or_default());
    let id = RequestId(rand::random());
    refuse(
        core,
        (id, visitor.address, Protocol::Http(Version::HTTP_11)),
        (method, target),
        code,
    );
    // What follows is thrown away.
    io.activity().end_http();
    let page = error_page::whole(code, id, method == Some("HEAD"));
    // A visitor that does not take it is not waited for.
    if matches!(timeout(LINGER_TIME, io.write_all(&page)).await, Ok(Ok(()))) {
        linger(io).await;
    }
}

/// Counts and logs an HTTP/2 connection that was ended for what the visitor sent.
/// No answer can be given there.
pub(super) fn note(core: &Rc<Core>, visitor: Visitor, flood: Option<Flood>, ended: Option<Code>) {
    if flood.is_some() || ended.is_some_and(|code| code != Code::NO_ERROR) {
        let id = RequestId(rand::random());
        let who = (id, visitor.address, Protocol::Http(Version::HTTP_2));
        refuse(core, who, (None, None), ErrorCode::BadRequest);
    }
}

/// Counts why a head was refused; the code that says it.
pub(super) fn count(core: &Core, visitor: Visitor, fault: Fault) -> ErrorCode {
    if let Some(counter) = core.metrics.heads_refused.get(fault.index()) {
        counter.add(1);
    }
    tracing::debug!(visitor = %visitor.address, %fault, "request head refused");
    match fault {
        Fault::Malformed | Fault::Target | Fault::Framing => ErrorCode::BadRequest,
        Fault::TooLarge => ErrorCode::HeadTooLarge,
    }
}
