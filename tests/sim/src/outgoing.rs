//! Bodies on their way out, and the knowledge of when their last byte has left.
//!
//! hyper tells nobody when an answer is written. The body notes that it has given its last byte
//! away, and the connection's next completed flush then means that the client's socket has it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::Response;
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Sleep;

use crate::exchange::{Body, Reply};
use crate::passage::Delivery;

/// How long half an answer has to reach the client before the connection breaks: hyper drops
/// what it has not yet written when a body fails.
const HALF_AN_ANSWER: Duration = Duration::from_millis(30);

/// The answers of one connection that have been given away whole but not yet flushed.
#[derive(Clone, Default)]
pub(crate) struct Flushed(Arc<Mutex<Vec<Delivery>>>);

impl Flushed {
    fn given_away(&self, delivery: Delivery) {
        self.0.lock().expect("no holder of this lock panics").push(delivery);
    }

    fn flushed(&self) {
        for delivery in std::mem::take(&mut *self.0.lock().expect("no holder of this lock panics")) {
            delivery.done();
        }
    }
}

pub(crate) struct Outgoing {
    content: Content,
    /// Taken when the last byte is given away.
    report: Option<(Flushed, Delivery)>,
}

enum Content {
    Whole(Option<Bytes>),
    Stream(UnboundedReceiver<Vec<u8>>),
    Half { bytes: Option<Bytes>, whole: u64, pause: Pin<Box<Sleep>> },
}

impl Outgoing {
    pub fn response(reply: Reply, mut report: Option<(Flushed, Delivery)>) -> Response<Self> {
        let content = match reply.body {
            Body::Stream(stream) => Content::Stream(stream),
            Body::Whole(bytes) if bytes.is_empty() => {
                Self::report(&mut report);
                Content::Whole(None)
            }
            Body::Conversation(_) => Content::Whole(None),
            Body::Whole(bytes) => Content::Whole(Some(bytes.into())),
        };
        let mut response = head(reply.status, &reply.content_type, Self { content, report });
        let location = reply.location.and_then(|location| HeaderValue::try_from(location).ok());
        location.map(|location| response.headers_mut().insert(LOCATION, location));
        response
    }

    /// The head of the whole answer and half of its body; then the connection breaks. A stream is
    /// broken off after its head.
    pub fn truncated(reply: Reply) -> Response<Self> {
        let bytes = match reply.body {
            Body::Whole(bytes) => Bytes::from(bytes),
            Body::Stream(_) | Body::Conversation(_) => Bytes::from_static(b"{}"),
        };
        let whole = bytes.len().max(1) as u64;
        let half = bytes.slice(..bytes.len() / 2);
        let pause = Box::pin(tokio::time::sleep(HALF_AN_ANSWER));
        let content = Content::Half { bytes: Some(half), whole, pause };
        let mut response = head(reply.status, &reply.content_type, Self { content, report: None });
        response.headers_mut().insert(CONTENT_LENGTH, whole.into());
        response
    }

    fn report(report: &mut Option<(Flushed, Delivery)>) {
        if let Some((flushed, delivery)) = report.take() {
            flushed.given_away(delivery);
        }
    }
}

fn head(status: u16, content_type: &str, body: Outgoing) -> Response<Outgoing> {
    let mut response = Response::new(body);
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

impl hyper::body::Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let frame = match &mut this.content {
            Content::Whole(bytes) => {
                Self::report(&mut this.report);
                bytes.take().map(|bytes| Ok(Frame::data(bytes)))
            }
            Content::Stream(stream) => match ready!(stream.poll_recv(context)) {
                Some(chunk) => Some(Ok(Frame::data(chunk.into()))),
                None => {
                    Self::report(&mut this.report);
                    None
                }
            },
            Content::Half { bytes, pause, .. } => match bytes.take().filter(|bytes| !bytes.is_empty()) {
                Some(bytes) => Some(Ok(Frame::data(bytes))),
                None => {
                    ready!(pause.as_mut().poll(context));
                    Some(Err(io::ErrorKind::ConnectionAborted.into()))
                }
            },
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Half { whole, .. } => SizeHint::with_exact(*whole),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}

/// A connection that reports its completed flushes.
pub(crate) struct Reporting<S> {
    stream: S,
    flushed: Flushed,
}

impl<S> Reporting<S> {
    pub fn new(stream: S, flushed: Flushed) -> Self {
        Self { stream, flushed }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Reporting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Reporting<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.stream).poll_flush(context));
        if result.is_ok() {
            self.flushed.flushed();
        }
        Poll::Ready(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
