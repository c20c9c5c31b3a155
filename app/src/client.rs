//! A small HTTP client for the program's own checks: one request, one connection.

use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::http::request::Builder;
use hyper::{Method, Request, Uri, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// What came back: status and body, JSON where it is JSON.
pub type Answer = (u16, Value);

/// One request to `address`, with a token where it is not empty.
///
/// # Errors
/// What went wrong on the way; a refusal by the server is an [`Answer`].
pub async fn call(
    address: &str,
    method: Method,
    path: &str,
    token: &str,
    (content_type, body): (&str, Bytes),
) -> Result<Answer, String> {
    let mut request = Request::builder().method(method).uri(path);
    if !content_type.is_empty() {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    send(address, request, token, body).await
}

/// One request over TLS, without a body.
///
/// # Errors
/// As [`call`].
pub async fn call_over(tls: &TlsConnector, address: &str, method: Method, path: &str) -> Result<Answer, String> {
    let stream = connect(address).await?;
    let name = ServerName::try_from("localhost").map_err(|e| e.to_string())?;
    let stream = tls.connect(name, stream).await.map_err(|e| format!("{address}: {e}"))?;
    exchange(
        stream,
        address,
        Request::builder().method(method).uri(path),
        "",
        Bytes::new(),
    )
    .await
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|e| format!("{address}: {e}"))
}

async fn send(address: &str, request: Builder, token: &str, body: Bytes) -> Result<Answer, String> {
    exchange(connect(address).await?, address, request, token, body).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: &str,
    request: Builder,
    token: &str,
    body: Bytes,
) -> Result<Answer, String> {
    let (status, body) = received(stream, address, request, token, body).await?;
    let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
    Ok((status, serde_json::from_slice(&body).unwrap_or_else(|_| text())))
}

async fn received(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: &str,
    mut request: Builder,
    token: &str,
    body: Bytes,
) -> Result<(u16, Bytes), String> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let driving = tokio::spawn(connection);
    request = request.header(header::HOST, address);
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let status = response.status().as_u16();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|e| e.to_string())?
        .to_bytes();
    driving.abort();
    Ok((status, body))
}

/// What `path` shows.
///
/// # Errors
/// As [`call`], and where the server refuses.
pub async fn get(address: &str, path: &str, token: &str) -> Result<Value, String> {
    match call(address, Method::GET, path, token, ("", Bytes::new())).await? {
        (200, body) => Ok(body),
        (status, body) => Err(format!("GET {path}: {status} {body}")),
    }
}

/// What `path` shows once the views have reached a position.
///
/// # Errors
/// As [`call`].
pub async fn get_after(address: &str, path: &str, token: &str, position: &str) -> Result<Answer, String> {
    let request = Request::get(path).header("fajma-read-after", position);
    send(address, request, token, Bytes::new()).await
}

/// Sends JSON to `path`.
///
/// # Errors
/// As [`call`].
pub async fn post(address: &str, path: &str, token: &str, body: &Value) -> Result<Answer, String> {
    let body = ("application/json", Bytes::from(body.to_string()));
    call(address, Method::POST, path, token, body).await
}

/// The body at a URL, where it answers with 200.
///
/// # Errors
/// What went wrong on the way, or what was answered instead.
pub async fn fetch(url: &str, tls: Option<Arc<ClientConfig>>) -> Result<Vec<u8>, String> {
    match ask(url, tls, Request::builder(), Bytes::new()).await? {
        (200, body) => Ok(body.to_vec()),
        (status, body) => Err(format!("{status} {}", String::from_utf8_lossy(&body))),
    }
}

/// One request to a place under a URL: status and body of the answer.
///
/// # Errors
/// What went wrong on the way.
pub async fn ask(
    url: &str,
    tls: Option<Arc<ClientConfig>>,
    request: Builder,
    body: Bytes,
) -> Result<(u16, Bytes), String> {
    let uri: Uri = url.parse().map_err(|e| format!("{url}: {e}"))?;
    let authority = uri.authority().ok_or_else(|| format!("{url} names no host"))?;
    let port = authority
        .port_u16()
        .unwrap_or_else(|| if tls.is_some() { 443 } else { 80 });
    let address = format!("{}:{port}", authority.host());
    let under = request
        .uri_ref()
        .map(Uri::path)
        .filter(|under| *under != "/")
        .unwrap_or_default();
    let path = match uri.path_and_query() {
        Some(path) if under.is_empty() => path.to_string(),
        Some(path) => format!("{}{under}", path.path().trim_end_matches('/')),
        None => format!("/{}", under.trim_start_matches('/')),
    };
    let request = request.uri(path);
    let stream = connect(&address).await?;
    match tls {
        None => received(stream, authority.as_str(), request, "", body).await,
        Some(tls) => {
            let name = ServerName::try_from(authority.host().to_owned()).map_err(|e| e.to_string())?;
            let stream = TlsConnector::from(tls).connect(name, stream).await;
            let stream = stream.map_err(|e| format!("{address}: {e}"))?;
            received(stream, authority.as_str(), request, "", body).await
        }
    }
}
