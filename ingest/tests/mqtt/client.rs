//! Packets written by hand, so that what no library would send can be sent.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    loop {
        let low = (length % 128) as u8;
        length /= 128;
        out.push(if length > 0 { low | 128 } else { low });
        if length == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

pub(crate) fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u16).to_be_bytes()[..], text].concat()
}

/// Properties with their length, in MQTT 5; nothing in 3.1.1.
pub(crate) fn props(v: u8, properties: &[u8]) -> Vec<u8> {
    if v == 5 {
        [&[properties.len() as u8], properties].concat()
    } else {
        Vec::new()
    }
}

#[derive(Clone)]
pub(crate) struct Connect<'a> {
    pub(crate) v: u8,
    pub(crate) client: &'a str,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    pub(crate) props: &'a [u8],
    /// Topic, payload, retain, properties.
    pub(crate) will: Option<(&'a str, &'a str, bool, &'a [u8])>,
    pub(crate) token: &'a str,
}

impl<'a> Connect<'a> {
    pub(crate) fn new(v: u8, client: &'a str, token: &'a str) -> Self {
        Self {
            v,
            client,
            clean: true,
            keep_alive: 60,
            props: b"",
            will: None,
            token,
        }
    }

    /// A session that outlives its connection by five minutes.
    pub(crate) fn lasting(v: u8, client: &'a str, token: &'a str) -> Self {
        let props: &[u8] = if v == 5 { b"\x11\0\0\x01\x2c" } else { b"" };
        Self {
            clean: false,
            props,
            ..Self::new(v, client, token)
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut flags = 0xc0 | if self.clean { 2 } else { 0 };
        if let Some((_, _, retain, _)) = self.will {
            flags |= 4 | 8 | if retain { 32 } else { 0 };
        }
        let mut body = [&text("MQTT")[..], &[self.v, flags], &self.keep_alive.to_be_bytes()].concat();
        body.extend(props(self.v, self.props));
        body.extend(text(self.client));
        if let Some((topic, payload, _, properties)) = self.will {
            body.extend(props(self.v, properties));
            body.extend(text(topic));
            body.extend(text(payload));
        }
        body.extend(text("anyone"));
        body.extend(text(self.token));
        packet(0x10, &body)
    }
}

pub(crate) fn publish(v: u8, topic: &str, qos: u8, id: u16, payload: impl AsRef<[u8]>) -> Vec<u8> {
    publish_as(v, 0x30 | qos << 1, topic, id, b"", payload)
}

pub(crate) fn publish_as(
    v: u8,
    first: u8,
    topic: &str,
    id: u16,
    properties: &[u8],
    payload: impl AsRef<[u8]>,
) -> Vec<u8> {
    let mut body = text(topic);
    if first & 6 != 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(props(v, properties));
    body.extend_from_slice(payload.as_ref());
    packet(first, &body)
}

pub(crate) fn subscribe(v: u8, id: u16, filter: &str, options: u8) -> Vec<u8> {
    packet(
        0x82,
        &[&id.to_be_bytes()[..], &props(v, b""), &text(filter), &[options]].concat(),
    )
}

pub(crate) fn unsubscribe(v: u8, id: u16, filter: &str) -> Vec<u8> {
    packet(0xa2, &[&id.to_be_bytes()[..], &props(v, b""), &text(filter)].concat())
}

pub(crate) fn answer(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

pub(crate) const DISCONNECT: &[u8] = &[0xe0, 0];
pub(crate) const PING: &[u8] = &[0xc0, 0];

/// What the door said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet(pub(crate) u8, pub(crate) Vec<u8>);

impl Packet {
    pub(crate) fn id(&self) -> u16 {
        let at = if self.0 >> 4 == 3 {
            2 + usize::from(self.1[1])
        } else {
            0
        };
        u16::from_be_bytes([self.1[at], self.1[at + 1]])
    }

    /// The reason of an answer in MQTT 5.
    pub(crate) fn code(&self) -> u8 {
        self.1.get(2).copied().unwrap_or(0)
    }
}

pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

pub(crate) struct Client<S = TcpStream> {
    pub(crate) io: S,
    buffer: Vec<u8>,
}

impl<S: Io> Client<S> {
    pub(crate) fn over(io: S) -> Self {
        Self { io, buffer: Vec::new() }
    }

    /// Sends; a door that has closed already is no failure.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.io.write_all(bytes.as_ref()).await;
        let _ = self.io.flush().await;
    }

    /// The next packet; `None` where the connection was closed instead.
    pub(crate) async fn next(&mut self) -> Option<Packet> {
        tokio::time::timeout(super::SOON, self.read())
            .await
            .expect("the door said nothing")
    }

    async fn read(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.whole() {
                return Some(packet);
            }
            match self.io.read_buf(&mut self.buffer).await {
                Ok(n) if n > 0 => {}
                _ => return None,
            }
        }
    }

    fn whole(&mut self) -> Option<Packet> {
        let mut length = 0;
        for (i, byte) in self.buffer.iter().skip(1).take(4).enumerate() {
            length |= usize::from(byte & 127) << (7 * i);
            if byte & 128 == 0 {
                let end = 2 + i + length;
                if self.buffer.len() < end {
                    return None;
                }
                let packet = Packet(self.buffer[0], self.buffer[2 + i..end].to_vec());
                self.buffer.drain(..end);
                return Some(packet);
            }
        }
        None
    }

    /// Logs in; returns CONNACK.
    pub(crate) async fn login(&mut self, connect: &Connect<'_>) -> Packet {
        self.send(connect.bytes()).await;
        self.next().await.expect("closed instead of CONNACK")
    }

    /// Everything the door says until it closes.
    pub(crate) async fn rest(&mut self) -> Vec<Packet> {
        let mut rest = Vec::new();
        while let Some(packet) = self.next().await {
            rest.push(packet);
        }
        rest
    }
}
