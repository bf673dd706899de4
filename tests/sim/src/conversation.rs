//! Answers that turn their connection into a WebSocket, on which the server says all it has to say and closes.

use std::error::Error;

use futures_util::{SinkExt, StreamExt};
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::exchange::{Conversation, Reply};
use crate::outgoing::Outgoing;

/// The head of the answer. What is said follows in a task of its own, when hyper has let the connection go.
pub(crate) fn begin(conversation: Conversation, key: &str, upgrade: OnUpgrade) -> Response<Outgoing> {
    let mut response = Outgoing::response(Reply::text(StatusCode::SWITCHING_PROTOCOLS.as_u16(), ""), None);
    let protocol = HeaderValue::from_str(&conversation.protocol).unwrap_or(HeaderValue::from_static(""));
    let accepted = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is plain ASCII");
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    tokio::spawn(async move {
        // The error is the client's end of the connection.
        let _ = speak(conversation, upgrade).await;
    });
    response
}

async fn speak(conversation: Conversation, upgrade: OnUpgrade) -> Result<(), Box<dyn Error + Send + Sync>> {
    let stream = TokioIo::new(upgrade.await?);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    for message in conversation.messages {
        socket.send(Message::binary(message)).await?;
    }
    // Without a code clients take it for a connection that broke.
    socket.close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() })).await?;
    // Until the client has closed its side too.
    while let Some(message) = socket.next().await {
        message?;
    }
    Ok(())
}
