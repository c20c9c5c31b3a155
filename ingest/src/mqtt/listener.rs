//! Connections as they come: bounds, TLS, WebSocket or plain, each in a task of its own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::ws::{self, Rewound};
use super::{MqttDoor, connection, metrics};

/// A way to the door. WebSocket clients come in by the same one: their first bytes tell.
#[derive(Debug)]
pub struct Entrance {
    /// Where connections come.
    pub listener: TcpListener,
    /// With it, every connection here begins with TLS.
    pub tls: Option<Arc<ServerConfig>>,
}

/// How many connections there are, in all and from each address.
#[derive(Debug)]
pub(super) struct Doorkeeper {
    room: Arc<Semaphore>,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    limit: usize,
}

/// A connection's place; dropped, it is free again.
#[derive(Debug)]
struct Place {
    keeper: Arc<Doorkeeper>,
    address: IpAddr,
    _room: OwnedSemaphorePermit,
    _open: metrics::Open,
}

impl Doorkeeper {
    pub(super) fn new(connections: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            room: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            by_address: Mutex::default(),
            limit: per_address,
        })
    }

    fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Place, &'static str> {
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| "connections")?;
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_default();
        if *count >= self.limit {
            return Err("connections_per_address");
        }
        *count += 1;
        drop(by_address);
        Ok(Place {
            keeper: Arc::clone(self),
            address,
            _room: room,
            _open: metrics::Open::new(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_address = self.keeper.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// Takes connections in until the door stops.
pub(super) async fn listen(door: Arc<MqttDoor>, entrance: Entrance, stop: CancellationToken) {
    const PAUSE: Duration = Duration::from_millis(100);
    let tls = entrance.tls.map(TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = entrance.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match door.keeper.admit(peer.ip()) {
                Ok(place) => {
                    let (door, tls, stop) = (Arc::clone(&door), tls.clone(), stop.clone());
                    let tasks = door.tasks.clone();
                    tasks.spawn(async move {
                        enter(door, stream, peer, tls, stop).await;
                        drop(place);
                    });
                }
                Err(why) => {
                    metrics::turned_away(why);
                    tracing::warn!(%peer, why, "a connection was turned away");
                }
            },
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken in");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn enter(
    door: Arc<MqttDoor>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    stop: CancellationToken,
) {
    let deadline = Instant::now() + door.limits.connect_timeout;
    let _ = stream.set_nodelay(true);
    let probe = socket2::TcpKeepalive::new().with_time(door.limits.tcp_keepalive);
    let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&probe);
    match tls {
        None => sniff(door, stream, peer, deadline, stop).await,
        Some(tls) => match timeout_at(deadline, tls.accept(stream)).await {
            Ok(Ok(stream)) => Box::pin(sniff(door, stream, peer, deadline, stop)).await,
            Ok(Err(error)) => {
                metrics::turned_away("tls");
                tracing::debug!(%peer, %error, "no TLS");
            }
            Err(_) => metrics::turned_away("timeout"),
        },
    }
}

/// `G` begins the upgrade of a WebSocket; MQTT begins with 0x10.
async fn sniff<S>(door: Arc<MqttDoor>, mut io: S, peer: SocketAddr, deadline: Instant, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut head = BytesMut::with_capacity(512);
    match timeout_at(deadline, io.read_buf(&mut head)).await {
        Ok(Ok(n)) if n > 0 => {}
        Ok(_) => return metrics::turned_away("silent"),
        Err(_) => return metrics::turned_away("timeout"),
    }
    if head.first() != Some(&b'G') {
        return connection::serve(door, io, head, peer, deadline, stop).await;
    }
    match timeout_at(deadline, ws::accept(Rewound { head, io }, door.limits.packet_bytes)).await {
        Ok(Ok(socket)) => Box::pin(connection::serve(door, socket, BytesMut::new(), peer, deadline, stop)).await,
        Ok(Err(error)) => {
            metrics::turned_away("websocket");
            tracing::debug!(%peer, %error, "no WebSocket");
        }
        Err(_) => metrics::turned_away("timeout"),
    }
}
