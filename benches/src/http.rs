//! A keep-alive HTTP connection, blocking, as cheap as can be: what the generator spends is taken from the server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Result;
use crate::world::number;

/// Longest head of an answer, in bytes.
const HEAD: usize = 16 << 10;

/// A connection that sends one request after the other.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    token: String,
    out: Vec<u8>,
    input: Vec<u8>,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Where nobody listens.
    pub fn open(address: SocketAddr, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self {
            stream,
            token: token.to_owned(),
            out: Vec::with_capacity(64 << 10),
            input: Vec::with_capacity(64 << 10),
        })
    }

    /// Asks for a path.
    ///
    /// # Errors
    /// Where the connection breaks or the answer is no HTTP.
    pub fn get(&mut self, path: &str) -> Result<Answer<'_>> {
        self.exchange("GET", path, &[])
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn post(&mut self, path: &str, body: &[u8]) -> Result<Answer<'_>> {
        self.exchange("POST", path, body)
    }

    fn exchange(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Answer<'_>> {
        self.out.clear();
        for part in [
            method,
            " ",
            path,
            " HTTP/1.1\r\nhost: fajma\r\nauthorization: Bearer ",
            &self.token,
        ] {
            self.out.extend_from_slice(part.as_bytes());
        }
        self.out
            .extend_from_slice(b"\r\ncontent-type: application/json\r\ncontent-length: ");
        number(body.len() as u64, &mut self.out);
        self.out.extend_from_slice(b"\r\n\r\n");
        self.out.extend_from_slice(body);
        self.stream.write_all(&self.out)?;
        self.read()
    }

    fn read(&mut self) -> Result<Answer<'_>> {
        self.input.clear();
        let mut chunk = [0; 32 << 10];
        let (status, from, length) = loop {
            if let Some(head) = head(&self.input)? {
                break head;
            }
            if self.input.len() > HEAD {
                return Err("the head of an answer does not end".into());
            }
            self.more(&mut chunk)?;
        };
        while self.input.len() < from + length {
            self.more(&mut chunk)?;
        }
        Ok(Answer {
            status,
            body: &self.input[from..from + length],
        })
    }

    fn more(&mut self, chunk: &mut [u8]) -> Result<()> {
        match self.stream.read(chunk)? {
            0 => Err("the server closed the connection".into()),
            n => {
                self.input.extend_from_slice(&chunk[..n]);
                Ok(())
            }
        }
    }
}

/// Status, where the body begins, and its length; `None` while the head is not whole.
fn head(input: &[u8]) -> Result<Option<(u16, usize, usize)>> {
    let Some(end) = input.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&input[..end])?;
    let status = text.get(9..12).and_then(|s| s.parse().ok()).ok_or("no HTTP status")?;
    let mut length = Err("an answer without content-length");
    for line in text.lines() {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(|_| "content-length is no number");
        }
    }
    Ok(Some((status, end + 4, length?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_once_they_are_whole() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nx: y\r\n\r\nabc";
        assert_eq!(head(answer).unwrap(), Some((200, answer.len() - 3, 3)));
        assert_eq!(head(&answer[..30]).unwrap(), None);
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
