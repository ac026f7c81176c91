//! Carries one exchange over HTTP/2: pipes with the bytes of a data stream on one side, a request and its
//! answer on the other.
//!
//! ```text
//! request pipe:  ConnectRequest  │ body …   ─►  HEADERS │ DATA …
//! response pipe: ConnectResponse │ body …   ◄─  HEADERS │ DATA …
//! ```
//! The body of an answer that may end with trailers is put in frames, if the request says that it may be.
//!
//! Back-pressure is whole. A chunk leaves the request pipe when the connector's window has room for it. The
//! connector's window grows again when the response pipe has taken the bytes.
//!
//! HTTP/2 cannot stop one direction of a stream alone. A visitor who gives up either gives the exchange up.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use adit_driver::pipe::{PipeClosed, PipeReader, PipeWriter};
use adit_proto::exchange::edge::{
    Asked, BodyForm, Http2Request, http2_failure, http2_interim, http2_request, http2_response,
};
use adit_proto::exchange::framed_body::{data_frame, trailers_frame};
use adit_wire::connect::{ConnectRequest, decode_request};
use bytes::{Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::Response;

use super::Connection;
use super::answer::AnswerBody;
use super::byte_stream::poll_granted;
use crate::open::stream::{LOST, NOT_OPENED};

/// The code of all resets and stops that are the connector's.
const BY_CONNECTOR: u32 = 0;

/// Carries the exchange whose pipes these are until both directions have ended.
pub(crate) async fn carry(connection: Connection, mut request: PipeReader, mut response: PipeWriter) {
    let _awaited = connection.0.pulse.enter();
    // Whoever opened the pipes is gone before the head was there: nothing to tell anybody.
    let Some((mut head, rest)) = read_head(&mut request).await else {
        return;
    };
    head.takes_interim &= connection.is_of_ours();
    let Http2Request {
        request: translated,
        has_body,
        asked,
        wanted,
    } = match http2_request(&head) {
        Ok(translated) => translated,
        Err(error) => {
            request.stop(BY_CONNECTOR);
            if response.write(http2_failure(&error)).await.is_ok() {
                response.finish();
            }
            return;
        }
    };
    let ready = tokio::select! {
        biased;
        _ = response.closed() => return,
        ready = connection.0.requests.clone().ready() => ready,
    };
    let opened = ready.and_then(|mut requests| requests.send_request(translated, !has_body));
    let (answer, send) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tracing::debug!(%error, "request not sent");
            connection.0.is_leaving.notify_one();
            request.stop(NOT_OPENED);
            return response.abort(NOT_OPENED);
        }
    };
    let sending = send_request(request, rest, send, has_body);
    let answering = answer_request(answer, (asked, head.takes_interim), wanted, response);
    both(sending, answering).await;
}

/// Runs both directions to their ends. Drops the request's direction once nobody wants the answer: HTTP/2
/// cancels a stream with the last handle of it.
async fn both(sending: impl Future<Output = ()>, answering: impl Future<Output = Answered>) {
    let (mut sending, mut answering) = (pin!(sending), pin!(answering));
    tokio::select! {
        biased;
        answered = &mut answering => if answered == Answered::ToTheEnd {
            sending.await;
        },
        () = &mut sending => {
            answering.await;
        }
    }
}

/// The head, and the bytes that came with it.
async fn read_head(request: &mut PipeReader) -> Option<(ConnectRequest, Bytes)> {
    let mut received = Bytes::new();
    loop {
        let chunk = request.read().await.ok()??;
        received = if received.is_empty() {
            chunk
        } else {
            let mut joined = BytesMut::from(received);
            joined.extend_from_slice(&chunk);
            joined.freeze()
        };
        if let Some(head) = decode_request(&mut received).ok()? {
            return Some((head, received));
        }
    }
}

/// Pipe to connector.
async fn send_request(
    mut request: PipeReader,
    mut chunk: Bytes,
    mut send: SendStream<Bytes>,
    has_body: bool,
) {
    loop {
        while has_body && !chunk.is_empty() {
            match poll_fn(|cx| poll_granted(&mut send, cx, chunk.len())).await {
                Ok(granted) => {
                    if send.send_data(chunk.split_to(granted), false).is_err() {
                        return request.stop(BY_CONNECTOR);
                    }
                }
                Err(error) => return request.stop(code_of(&error)),
            }
        }
        let read = tokio::select! {
            biased;
            // A connector that has answered in full may want no more of the request.
            reset = poll_fn(|cx| send.poll_reset(cx)), if has_body => {
                return request.stop(reset.map_or_else(|error| code_of(&error), |_| BY_CONNECTOR));
            }
            read = request.read() => read,
        };
        match read {
            Ok(Some(next)) => chunk = next,
            Ok(None) => {
                if has_body {
                    // Fails if the connector has reset the stream, which the answer's side tells.
                    let _ = send.send_data(Bytes::new(), true);
                }
                return;
            }
            Err(_) => return send.send_reset(Reason::CANCEL),
        }
    }
}

/// How the answer's direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    /// As the connector ended it.
    ToTheEnd,
    /// Nobody reads it any more.
    InVain,
}

/// Connector to pipe.
async fn answer_request(
    mut answer: ResponseFuture,
    (asked, takes_interim): (Asked, bool),
    wanted: BodyForm,
    mut response: PipeWriter,
) -> Answered {
    let answer = loop {
        let heard = tokio::select! {
            biased;
            _ = response.closed() => return Answered::InVain,
            heard = poll_fn(|cx| poll_heard(&mut answer, takes_interim, cx)) => heard,
        };
        match heard {
            Heard::Answer(answer) => break answer,
            Heard::Interim(interim) => {
                let head = http2_interim(&interim.into_parts().0);
                if let Some(head) = head
                    && response.write(head).await.is_err()
                {
                    return Answered::InVain;
                }
            }
        }
    };
    let (parts, body) = match answer {
        Ok(answer) => answer.into_parts(),
        Err(error) => {
            // Refused streams were not looked at (RFC 9113 §8.7).
            let is_refused = error.reason() == Some(Reason::REFUSED_STREAM);
            response.abort(if is_refused { NOT_OPENED } else { code_of(&error) });
            return Answered::ToTheEnd;
        }
    };
    let form = if body.is_end_stream() {
        BodyForm::Plain
    } else {
        wanted
    };
    let translated = http2_response(&parts, asked, form);
    if response.write(translated.head).await.is_err() {
        return Answered::InVain;
    }
    if !translated.has_body {
        response.finish();
        return Answered::ToTheEnd;
    }
    answer_body(body, form, response).await
}

/// What a connector says.
enum Heard {
    Interim(Response<()>),
    Answer(Result<Response<RecvStream>, h2::Error>),
}

fn poll_heard(answer: &mut ResponseFuture, takes_interim: bool, cx: &mut Context<'_>) -> Poll<Heard> {
    // The library throws those away that nobody has asked for.
    if takes_interim && let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(cx) {
        return Poll::Ready(Heard::Interim(interim));
    }
    Pin::new(answer).poll(cx).map(Heard::Answer)
}

async fn answer_body(body: RecvStream, form: BodyForm, mut response: PipeWriter) -> Answered {
    let mut body = AnswerBody::new(body);
    loop {
        let data = tokio::select! {
            biased;
            _ = response.closed() => return Answered::InVain,
            data = body.next() => data,
        };
        match data {
            Some(Ok(data)) => {
                let size = data.len();
                if body.beside(write(&mut response, form, data)).await.is_err() {
                    return Answered::InVain;
                }
                body.release(size);
            }
            Some(Err(error)) => {
                response.abort(code_of(&error));
                return Answered::ToTheEnd;
            }
            None => break,
        }
    }
    if form == BodyForm::Framed && answer_trailers(body, &mut response).await.is_none() {
        response.abort(BY_CONNECTOR);
    }
    response.finish();
    Answered::ToTheEnd
}

/// What comes after the body; `None` if it broke off or is too large.
async fn answer_trailers(mut body: AnswerBody, response: &mut PipeWriter) -> Option<()> {
    let Some(trailers) = body.trailers().await.ok()? else {
        return Some(());
    };
    // Whoever does not read them any more need not know.
    let _ = write_all(response, trailers_frame(&trailers).ok()?).await;
    Some(())
}

async fn write(response: &mut PipeWriter, form: BodyForm, mut data: Bytes) -> Result<(), PipeClosed> {
    while form == BodyForm::Framed && !data.is_empty() {
        write_all(response, data_frame(&mut data)).await?;
    }
    response.write(data).await
}

async fn write_all(response: &mut PipeWriter, parts: [Bytes; 2]) -> Result<(), PipeClosed> {
    for part in parts {
        response.write(part).await?;
    }
    Ok(())
}

fn code_of(error: &h2::Error) -> u32 {
    if error.is_io() || error.is_go_away() {
        LOST
    } else {
        BY_CONNECTOR
    }
}
