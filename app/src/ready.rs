//! `fajma ready`: whether the process on this machine can do its work; what a container's health check runs.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use hyper::Method;
use hyper::body::Bytes;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use crate::cli::Place;
use crate::client;
use crate::failure::Failure;

/// What `fajma ready` takes.
#[derive(Debug, Clone, Args)]
pub struct Ready {
    /// Address and port of its HTTP (option http.listen).
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Where things are.
    #[command(flatten)]
    pub place: Place,
}

/// Asks `/readyz`; prints what is missing.
///
/// # Errors
/// Where nobody answers, or something is missing.
pub async fn run(options: Ready) -> Result<(), Failure> {
    let flags = options.listen.map(|address| ("http.listen", address, "--listen"));
    let config = options.place.config(flags.into_iter().collect())?;
    let address = here(&config.http.listen)?;
    let tls = config
        .tls
        .doors()?
        .map(|doors| TlsConnector::from(Arc::<ClientConfig>::clone(&doors.own)));
    let nothing = ("", Bytes::new());
    let asked = match &tls {
        None => client::call(&address, Method::GET, "/readyz", "", nothing).await,
        Some(tls) => client::call_over(tls, &address, Method::GET, "/readyz").await,
    };
    match asked {
        Ok((200, _)) => {
            println!("ready");
            Ok(())
        }
        Ok((_, said)) => Err(Failure::Failed(format!("not ready: {}", said["reasons"]))),
        Err(why) => Err(Failure::Failed(why)),
    }
}

/// The address at which this machine reaches what listens there.
fn here(listen: &str) -> Result<String, Failure> {
    let Ok(address) = listen.parse::<SocketAddr>() else {
        return Ok(listen.to_owned());
    };
    if address.port() == 0 {
        return Err(Failure::WrongUse(
            "the port was of the system's choice: name it with --listen".to_owned(),
        ));
    }
    let host = match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => "127.0.0.1".to_owned(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => "[::1]".to_owned(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        SocketAddr::V4(v4) => v4.ip().to_string(),
    };
    Ok(format!("{host}:{}", address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_here() {
        for (listen, reached) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("10.0.0.7:80", "10.0.0.7:80"),
            ("localhost:80", "localhost:80"),
        ] {
            assert_eq!(here(listen).unwrap(), reached);
        }
        assert!(here("127.0.0.1:0").is_err());
    }
}
