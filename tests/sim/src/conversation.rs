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

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use tokio_tungstenite::tungstenite::client;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;

    use super::*;
    use crate::cloud::defaults;
    use crate::kube::{Ended, PodSpec};
    use crate::world::{Options, World};

    #[test]
    fn a_client_hears_all_and_a_regular_end() {
        let world = World::start(Options { kube_plain_http: true, ..Options::default() }).unwrap();
        world.cluster.create_pod(&PodSpec { phase: "Running".into(), ..PodSpec::new("default", "web-0") });
        world.cluster.set_executor(|_| Ended { stdout: vec![b'x'; 100_000], ..Ended::default() });
        let server = world.kube_url.strip_prefix("http://").unwrap();
        let target = format!("ws://{server}/api/v1/namespaces/default/pods/web-0/exec?command=cat&stdout=true");
        let mut request = target.into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("authorization", format!("Bearer {}", defaults::KUBE_TOKEN).parse().unwrap());
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("v5.channel.k8s.io"));

        let (mut socket, response) = client(request, TcpStream::connect(server).unwrap()).unwrap();
        assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
        let said: Vec<Message> = (0..3).map(|_| socket.read().unwrap()).collect();
        let (out, outcome) = (said[0].clone().into_data(), said[1].clone().into_data());
        assert_eq!((out[0], out.len(), outcome[0]), (1, 100_001, 3));
        assert!(matches!(&said[2], Message::Close(Some(frame)) if frame.code == CloseCode::Normal), "{:?}", said[2]);
    }
}
