//! The command's side.

use std::io;
use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{Reply, Request};
use crate::config::Config;
use crate::failure::Failure;
use crate::house::House;
use crate::house::dir::DataDir;

/// Asks the server that runs on the directory, or the directory itself.
///
/// # Errors
/// [`Failure::Failed`] with the house's reason, or why it could not be asked.
pub async fn ask(config: &Config, request: Request) -> Result<Value, Failure> {
    let mut conversation = Conversation::new(config.clone());
    let answer = conversation.ask(request).await;
    conversation.close().await;
    answer
}

/// Several questions to one house. A directory that had to be opened stays open until the end.
#[derive(Debug)]
pub struct Conversation {
    config: Config,
    opened: Option<House>,
}

impl Conversation {
    /// Asks nothing yet.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self { config, opened: None }
    }

    /// Asks the server that runs on the directory, or the directory itself.
    ///
    /// # Errors
    /// [`Failure::Failed`] with the house's reason, or why it could not be asked.
    pub async fn ask(&mut self, request: Request) -> Result<Value, Failure> {
        if let Some(house) = &self.opened {
            return house.answer(request).await.map_err(Failure::Failed);
        }
        let dir = DataDir::new(&self.config.data.dir);
        match over_socket(&dir.socket(), &request).await {
            Ok(Some(Reply::Done(value))) => Ok(value),
            Ok(Some(Reply::Refused(why))) => Err(Failure::Failed(why)),
            Ok(None) if self.config.log.url.is_empty() && !dir.has_log() => Err(Failure::Failed(format!(
                "there is no log in {}: `fajma up --data {0}` makes one, or name another with --data",
                dir.path().display()
            ))),
            Ok(None) => {
                let house = self.opened.insert(House::open(&self.config).await?);
                house.answer(request).await.map_err(Failure::Failed)
            }
            Err(e) => Err(Failure::because(
                format_args!("the server on {} does not answer", dir.path().display()),
                e,
            )),
        }
    }

    /// Closes what had to be opened.
    pub async fn close(&mut self) {
        if let Some(house) = self.opened.take() {
            house.close().await;
        }
    }
}

/// The reply of the server at a socket; `None` where no server is there.
pub(super) async fn over_socket(path: &Path, request: &Request) -> io::Result<Option<Reply>> {
    let mut stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    if reply.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
    }
    serde_json::from_str(&reply).map(Some).map_err(io::Error::from)
}
