//! MQTT over WebSocket (MQTT 5 §6): binary frames are a stream of bytes, wherever packets begin in them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header::SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

/// A stream of which some bytes were read already.
#[derive(Debug)]
pub(super) struct Rewound<S> {
    pub(super) head: BytesMut,
    pub(super) io: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, into);
        }
        let n = self.head.len().min(into.remaining());
        into.put_slice(&self.head.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, from)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A WebSocket as a stream of bytes.
#[derive(Debug)]
pub(super) struct Socket<S> {
    inner: WebSocketStream<S>,
    rest: Bytes,
}

/// Answers the upgrade of a client that asks for `/mqtt` (or `/`) and the subprotocol `mqtt`.
///
/// # Errors
/// Whatever ended the handshake: it was answered as HTTP answers.
pub(super) async fn accept<S>(io: S, packet_bytes: usize) -> Result<Socket<S>, Box<Error>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .write_buffer_size(16 << 10)
        .max_write_buffer_size(1 << 20)
        .max_message_size(Some(packet_bytes.saturating_mul(2).max(64 << 10)))
        .max_frame_size(Some(packet_bytes.saturating_mul(2).max(64 << 10)));
    let inner = tokio_tungstenite::accept_hdr_async_with_config(io, agree, Some(config))
        .await
        .map_err(Box::new)?;
    Ok(Socket {
        inner,
        rest: Bytes::new(),
    })
}

#[expect(clippy::result_large_err, reason = "the library's own signature")]
fn agree(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let refuse = |status, why: &str| {
        let mut refused = ErrorResponse::new(Some(why.to_owned()));
        *refused.status_mut() = status;
        Err(refused)
    };
    if !matches!(request.uri().path(), "/" | "/mqtt" | "/mqtt/") {
        return refuse(StatusCode::NOT_FOUND, "MQTT is at /mqtt\n");
    }
    let offered = request
        .headers()
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok());
    if !offered.flat_map(|v| v.split(',')).any(|p| p.trim() == "mqtt") {
        return refuse(StatusCode::BAD_REQUEST, "the subprotocol is mqtt\n");
    }
    response
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("mqtt"));
    Ok(response)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                // A text frame is no MQTT (MQTT-6.0.0-1); a closed socket is the end.
                Some(Ok(Message::Text(_) | Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(failed(error))),
            }
        }
        let n = self.rest.len().min(into.remaining());
        into.put_slice(&self.rest[..n]);
        self.rest.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        const FRAME: usize = 16 << 10;
        ready!(Pin::new(&mut self.inner).poll_ready(cx)).map_err(failed)?;
        let n = from.len().min(FRAME);
        let frame = Message::Binary(Bytes::copy_from_slice(&from[..n]));
        Pin::new(&mut self.inner).start_send(frame).map_err(failed)?;
        Poll::Ready(Ok(n))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx).map_err(failed)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx).map_err(failed)
    }
}

fn failed(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}
