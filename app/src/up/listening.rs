//! Addresses that doors listen on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;

use crate::failure::Failure;

/// A listener that can be had again after it was lost.
#[derive(Debug, Clone)]
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    first: Arc<Mutex<Option<TcpListener>>>,
}

impl Listening {
    pub(super) async fn open(address: &str, flag: &str) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address).await.map_err(|e| taken(address, flag, &e))?;
        let address = listener.local_addr().map_err(|e| Failure::because(address, e))?;
        let first = Arc::new(Mutex::new(Some(listener)));
        Ok(Self { address, first })
    }

    pub(super) async fn take(&self) -> Result<TcpListener, String> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        match first {
            Some(listener) => Ok(listener),
            None => TcpListener::bind(self.address).await.map_err(|e| e.to_string()),
        }
    }
}

fn taken(address: &str, flag: &str, error: &std::io::Error) -> Failure {
    let what = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            let port = address.rsplit(':').next().unwrap_or_default();
            format!("{address} is taken: stop who has it (ss -ltnp 'sport = :{port}'), or name another with {flag}")
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("{address}: only root may listen there; name a port above 1023 with {flag}")
        }
        _ => format!("{address} cannot be listened on ({error}): name another with {flag}"),
    };
    Failure::Failed(what)
}
