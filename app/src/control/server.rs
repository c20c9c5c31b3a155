//! The socket of a running server.

use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::{LONGEST, Reply, Request};

/// How long a caller may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// The open socket. Removed when dropped.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: std::path::PathBuf,
}

impl Door {
    /// Opens the socket at `path`. A socket left by a server that died is replaced: whoever calls this holds the
    /// directory's lock.
    ///
    /// # Errors
    /// Where the socket cannot be made; paths of sockets have about 100 characters at most.
    pub fn open(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        // Nobody else gets into the directory (mode 0700), so the moment before the mode is set is no gap.
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let path = path.to_owned();
        Ok(Self { listener, path })
    }

    /// Answers callers until `stop`.
    ///
    /// # Errors
    /// Where the socket breaks.
    pub async fn serve<F, A>(&self, answer: F, stop: CancellationToken) -> io::Result<()>
    where
        F: Fn(Request) -> A + Send + Sync + 'static,
        A: Future<Output = Result<serde_json::Value, String>> + Send,
    {
        let answer = Arc::new(answer);
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                accepted = self.listener.accept() => accepted?.0,
            };
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                if let Err(error) = converse(stream, &*answer).await {
                    tracing::debug!(%error, "a local command went away");
                }
            });
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

async fn converse<F, A>(mut stream: UnixStream, answer: &F) -> io::Result<()>
where
    F: Fn(Request) -> A,
    A: Future<Output = Result<serde_json::Value, String>>,
{
    let mut line = String::new();
    let (input, mut output) = stream.split();
    let mut input = BufReader::new(input.take(LONGEST));
    tokio::time::timeout(PATIENCE, input.read_line(&mut line)).await??;
    let reply = match serde_json::from_str::<Request>(&line) {
        Ok(request) => match answer(request).await {
            Ok(value) => Reply::Done(value),
            Err(why) => Reply::Refused(why),
        },
        Err(e) => Reply::Refused(format!("this server does not understand the command: {e}")),
    };
    let mut reply = serde_json::to_vec(&reply)?;
    reply.push(b'\n');
    output.write_all(&reply).await?;
    output.shutdown().await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::client::over_socket;

    #[tokio::test]
    async fn a_request_gets_its_reply_and_the_socket_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        fs::write(&path, "left behind").unwrap();
        let door = Door::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let stop = CancellationToken::new();
        let told = stop.clone();
        let serving = tokio::spawn(async move {
            let answer = |request| async move {
                match request {
                    Request::Verify => Ok(json!({"fine": true})),
                    other => Err(format!("not {other:?}")),
                }
            };
            door.serve(answer, told).await
        });
        let done = over_socket(&path, &Request::Verify).await.unwrap();
        assert_eq!(done, Some(Reply::Done(json!({"fine": true}))));
        let refused = over_socket(&path, &Request::PolicyShow).await.unwrap();
        assert_eq!(refused, Some(Reply::Refused("not PolicyShow".to_owned())));
        stop.cancel();
        serving.await.unwrap().unwrap();
        assert!(!path.exists(), "the socket goes with the server");
        assert_eq!(over_socket(&path, &Request::Verify).await.unwrap(), None);
    }
}
