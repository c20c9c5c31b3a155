//! Sockets that do what attackers and bad networks do: every limit has to hold.

use std::net::SocketAddr;

use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;

/// Short enough for a test, long enough for a busy machine to do what is honest in between.
const SHORT: Duration = Duration::from_millis(300);
/// If it has not happened by now it will not.
const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    at: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

async fn start(limits: ServerLimits, tls: Option<Arc<ServerConfig>>) -> Running {
    let app = Router::new()
        .route("/", get(async || "hello"))
        .route("/slow", get(async || tokio::time::sleep(SHORT).await))
        .route("/much", get(async || vec![7_u8; 64 << 20]))
        .route("/body", post(async |body: axum::body::Bytes| body.len().to_string()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(serve(listener, app, tls, limits, shutdown.clone()));
    Running { at, shutdown, task }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }
}

/// What the server says until it closes, and how long that took.
async fn until_closed(mut stream: TcpStream) -> (String, Duration) {
    let began = Instant::now();
    let mut heard = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut heard))
        .await
        .expect("the server closes");
    // A reset closes as well.
    let _ = read;
    (String::from_utf8_lossy(&heard).into_owned(), began.elapsed())
}

/// Sends `text` byte by byte, for ever, until the server closes; how long that took.
async fn dribble(stream: TcpStream, start: &str, piece: &str, every: Duration) -> Duration {
    let began = Instant::now();
    let (mut read, mut write) = stream.into_split();
    write.write_all(start.as_bytes()).await.unwrap();
    let sending = async {
        loop {
            if write.write_all(piece.as_bytes()).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(every).await;
        }
    };
    let mut heard = Vec::new();
    let closed = read.read_to_end(&mut heard);
    tokio::select! {
        _ = closed => {}
        () = sending => {}
        () = tokio::time::sleep(PATIENCE) => panic!("the server let itself be kept"),
    }
    began.elapsed()
}

fn limits() -> ServerLimits {
    ServerLimits::default()
}

#[tokio::test]
async fn who_connects_and_says_nothing_is_closed() {
    let server = start(
        ServerLimits {
            head: SHORT,
            ..limits()
        },
        None,
    )
    .await;
    for start in [
        "",
        "GET / HT",
        "PRI * HTTP/2.0\r\n\r\nSM",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(start.as_bytes()).await.unwrap();
        let (_, took) = until_closed(stream).await;
        assert!(took >= SHORT / 2 && took < PATIENCE, "{start:?}: {took:?}");
    }
}

#[tokio::test]
async fn a_head_that_dribbles_in_is_cut_off_however_steady_it_is() {
    let server = start(
        ServerLimits {
            head: SHORT,
            ..limits()
        },
        None,
    )
    .await;
    let every = Duration::from_millis(20);
    dribble(
        server.connect().await,
        "GET / HTTP/1.1\r\nhost: x\r\n",
        "a: b\r\n",
        every,
    )
    .await;
    // Also the second head on a connection, after an honest first request.
    let honest = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut stream = server.connect().await;
    stream.write_all(honest.as_bytes()).await.unwrap();
    let mut answer = [0; 512];
    assert!(stream.read(&mut answer).await.unwrap() > 0);
    dribble(stream, "GET / HTTP/1.1\r\n", "x", every).await;
}

#[tokio::test]
async fn a_body_that_dribbles_in_is_cut_off() {
    let server = start(
        ServerLimits {
            body: SHORT,
            ..limits()
        },
        None,
    )
    .await;
    let head = "POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n";
    let mut stream = server.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let mut first = [0; 64];
    let sending = async {
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        n = read.read(&mut first) => {
            let said = String::from_utf8_lossy(&first[..n.unwrap_or(0)]).into_owned();
            assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
        }
        () = sending => {}
        () = tokio::time::sleep(PATIENCE) => panic!("the body was waited for"),
    }
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_after_the_idle_limit_and_not_before() {
    let server = start(
        ServerLimits {
            head: Duration::from_millis(50),
            idle: 4 * SHORT,
            ..limits()
        },
        None,
    )
    .await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let (said, took) = until_closed(stream).await;
    assert!(said.ends_with("hello"), "{said}");
    assert!(took >= 3 * SHORT, "{took:?}");
}

#[tokio::test]
async fn a_handler_may_take_longer_than_the_limits_for_clients() {
    let short = Duration::from_millis(40);
    let server = start(
        ServerLimits {
            head: short,
            idle: short,
            stall: short,
            ..limits()
        },
        None,
    )
    .await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(until_closed(stream).await.0.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn who_does_not_read_the_answer_is_cut_off_and_its_place_is_free_again() {
    let server = start(
        ServerLimits {
            stall: SHORT,
            connections: 1,
            ..limits()
        },
        None,
    )
    .await;
    let mut greedy = server.connect().await;
    greedy
        .write_all(b"GET /much HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let again = async {
        loop {
            let mut stream = server.connect().await;
            let _ = stream
                .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                .await;
            if until_closed(stream).await.0.ends_with("hello") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("the place is free again");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once_and_others_go_on() {
    let server = start(
        ServerLimits {
            connections_per_address: 2,
            ..limits()
        },
        None,
    )
    .await;
    let mut first = server.connect().await;
    // An answer says that the connection has been taken in.
    first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 512];
    assert!(first.read(&mut answer).await.unwrap() > 0);
    let _second = server.connect().await;
    let (said, _) = until_closed(server.connect().await).await;
    assert_eq!(said, "");
    first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(first.read(&mut answer).await.unwrap() > 0);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let server = start(
        ServerLimits {
            head_bytes: 8192,
            ..limits()
        },
        None,
    )
    .await;
    for (name, head) in [
        (
            "long",
            format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "b".repeat(20_000)),
        ),
        (
            "many",
            format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(100)),
        ),
    ] {
        let mut stream = server.connect().await;
        let _ = stream.write_all(head.as_bytes()).await;
        let (said, _) = until_closed(stream).await;
        // The refusal may be lost where the rest of the head was still on its way; the close is not.
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{name}: {said}");
    }
}

#[tokio::test]
async fn two_lengths_for_one_body_are_refused() {
    let server = start(limits(), None).await;
    for fields in [
        "content-length: 4\r\ncontent-length: 5\r\n",
        "content-length: 4\r\ntransfer-encoding: chunked\r\nconnection: close\r\n",
        "transfer-encoding: gzip, identity\r\n",
    ] {
        let mut stream = server.connect().await;
        let request = format!("POST /body HTTP/1.1\r\nhost: x\r\n{fields}\r\n0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 512];
        let n = timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&answer[..n]).into_owned();
        // RFC 9112 §6.3: either refused, or the length is passed over and the connection closed.
        assert!(
            said.starts_with("HTTP/1.1 400") || said.contains("connection: close"),
            "{fields}: {said}"
        );
    }
}

#[tokio::test]
async fn at_the_end_requests_under_way_are_answered_and_the_port_is_free() {
    let server = start(limits(), None).await;
    let mut under_way = server.connect().await;
    under_way
        .write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let idle = server.connect().await;
    tokio::time::sleep(SHORT / 3).await;
    server.shutdown.cancel();
    let (said, _) = until_closed(under_way).await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    drop(idle);
    timeout(PATIENCE, server.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.at).await.is_err());
}

#[tokio::test]
async fn the_drain_ends_although_somebody_stays() {
    let server = start(
        ServerLimits {
            drain: SHORT,
            ..limits()
        },
        None,
    )
    .await;
    let mut stays = server.connect().await;
    stays
        .write_all(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(SHORT / 3).await;
    server.shutdown.cancel();
    timeout(PATIENCE, server.task).await.unwrap().unwrap();
}

fn certificate() -> (Arc<ServerConfig>, rustls::RootCertStore) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let config = tls_config(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    (config, roots)
}

#[tokio::test]
async fn tls_carries_requests_and_a_handshake_that_hangs_is_cut_off() {
    let (config, roots) = certificate();
    let server = start(
        ServerLimits {
            handshake: SHORT,
            ..limits()
        },
        Some(config),
    )
    .await;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let name = "localhost".try_into().unwrap();
    let mut stream = connector.connect(name, server.connect().await).await.unwrap();
    assert_eq!(
        stream.get_ref().1.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert!(said.ends_with("hello"));

    let (_, took) = until_closed(server.connect().await).await;
    assert!(took >= SHORT / 2, "{took:?}");
    // No TLS at all is no handshake.
    let mut plain = server.connect().await;
    plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(!until_closed(plain).await.0.contains("200"));
}

#[test]
fn a_certificate_and_key_that_do_not_fit_are_refused() {
    let [one, two] = [0, 1].map(|_| rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap());
    let pem = |key: &rcgen::KeyPair| key.serialize_pem().into_bytes();
    assert!(tls_config(one.cert.pem().as_bytes(), &pem(&one.signing_key)).is_ok());
    let mixed = tls_config(one.cert.pem().as_bytes(), &pem(&two.signing_key));
    assert!(matches!(mixed, Err(TlsError::Unfit(_))));
    assert!(matches!(
        tls_config(b"", &pem(&one.signing_key)),
        Err(TlsError::Certificate(_))
    ));
    assert!(matches!(
        tls_config(one.cert.pem().as_bytes(), b"x"),
        Err(TlsError::Key(_))
    ));
}
