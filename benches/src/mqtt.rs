//! A publisher of MQTT 3.1.1 with QoS 1, blocking, its packets written by hand: one thread writes, one counts PUBACKs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use tokio::time::Instant;

use crate::{Latencies, Result, latencies, note};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNACK: [u8; 2] = [0x20, 2];
const PUBACK: [u8; 2] = [0x40, 2];

/// What both threads of a connection know.
#[derive(Debug)]
struct Shared {
    began: Instant,
    /// By packet id: the intended time of sending, in nanoseconds since `began`.
    intended: Vec<AtomicU64>,
    in_flight: AtomicUsize,
    closing: AtomicBool,
    writer: Thread,
}

/// A publisher: the writing half.
#[derive(Debug)]
pub struct Publisher {
    stream: TcpStream,
    shared: Arc<Shared>,
    window: usize,
    last_id: u16,
    out: Vec<u8>,
    reader: Option<JoinHandle<Result<Latencies>>>,
}

impl Publisher {
    /// Connects with a token as password. Up to `window` messages wait for their acknowledgement. To be used by the
    /// calling thread.
    ///
    /// # Errors
    /// Where the door does not let us in.
    pub fn open(address: SocketAddr, client: &str, token: &str, window: usize) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&connect(client, token))?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack)?;
        if connack[..2] != CONNACK || connack[3] != 0 {
            return Err(format!("the answer to CONNECT was {connack:02x?}").into());
        }
        let shared = Arc::new(Shared {
            began: Instant::now(),
            intended: (0..=u16::MAX).map(|_| AtomicU64::new(0)).collect(),
            in_flight: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            writer: std::thread::current(),
        });
        let reader = {
            let (stream, shared) = (stream.try_clone()?, Arc::clone(&shared));
            std::thread::spawn(move || count(stream, &shared))
        };
        Ok(Self {
            stream,
            shared,
            window,
            last_id: 0,
            out: Vec::with_capacity(64 << 10),
            reader: Some(reader),
        })
    }

    /// How many more messages may be sent now.
    #[must_use]
    pub fn room(&self) -> usize {
        self.window.saturating_sub(self.shared.in_flight.load(SeqCst))
    }

    /// Waits until at least `least` more messages may be sent.
    ///
    /// # Errors
    /// Where the connection is broken.
    pub fn wait_for_room(&self, least: usize) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.room() < least.min(self.window) {
            if self.reader.as_ref().is_none_or(JoinHandle::is_finished) || Instant::now() > until {
                return Err("no more acknowledgements come".into());
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Adds a message that should have been sent at `intended` to what [`flush`](Self::flush) sends.
    pub fn publish(&mut self, topic: &[u8], payload: &[u8], intended: Instant) {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let since = intended.saturating_duration_since(self.shared.began).as_nanos();
        self.shared.intended[usize::from(self.last_id)].store(u64::try_from(since).unwrap_or(u64::MAX), SeqCst);
        self.shared.in_flight.fetch_add(1, SeqCst);
        self.out.push(0x32);
        length(2 + topic.len() + 2 + payload.len(), &mut self.out);
        text(topic, &mut self.out);
        self.out.extend_from_slice(&self.last_id.to_be_bytes());
        self.out.extend_from_slice(payload);
    }

    /// Sends what was added.
    ///
    /// # Errors
    /// Where the connection is broken.
    pub fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Waits for every acknowledgement; the latencies.
    ///
    /// # Errors
    /// Where the connection broke.
    pub fn finish(mut self) -> Result<Latencies> {
        self.shared.closing.store(true, SeqCst);
        self.wait_for_room(self.window)?;
        let _ = self.stream.write_all(&[0xe0, 0]);
        let reader = self.reader.take().ok_or("finished twice")?;
        reader.join().map_err(|_| "the reading thread panicked")?
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Counts PUBACKs until the connection ends and everything was acknowledged.
fn count(mut stream: TcpStream, shared: &Shared) -> Result<Latencies> {
    let mut latencies = latencies()?;
    let (mut input, mut held) = (vec![0; 16 << 10], 0);
    loop {
        let read = match stream.read(&mut input[held..]) {
            Ok(0) | Err(_) if shared.closing.load(SeqCst) && shared.in_flight.load(SeqCst) == 0 => {
                return Ok(latencies);
            }
            Ok(0) => return Err("the server closed the connection".into()),
            read => read?,
        };
        let now = shared.began.elapsed();
        let mut acks = input[..held + read].chunks_exact(4);
        let mut count = 0;
        for ack in acks.by_ref() {
            if ack[..2] != PUBACK {
                return Err(format!("not a PUBACK: {ack:02x?}").into());
            }
            let id = u16::from_be_bytes([ack[2], ack[3]]);
            let intended = Duration::from_nanos(shared.intended[usize::from(id)].load(SeqCst));
            note(&mut latencies, now.saturating_sub(intended));
            count += 1;
        }
        let rest = acks.remainder().len();
        let from = held + read - rest;
        input.copy_within(from..from + rest, 0);
        held = rest;
        shared.in_flight.fetch_sub(count, SeqCst);
        shared.writer.unpark();
    }
}

fn connect(client: &str, token: &str) -> Vec<u8> {
    const USER: &[u8] = b"bench";
    // Protocol level 4; user name, password, clean session; a minute of silence allowed.
    let mut body = b"\x00\x04MQTT\x04\xc2\x00\x3c".to_vec();
    for part in [client.as_bytes(), USER, token.as_bytes()] {
        text(part, &mut body);
    }
    let mut out = vec![0x10];
    length(body.len(), &mut out);
    out.extend_from_slice(&body);
    out
}

fn text(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// MQTT's variable byte integer.
fn length(mut n: usize, out: &mut Vec<u8>) {
    while n >= 128 {
        out.push((n % 128) as u8 | 0x80);
        n /= 128;
    }
    out.push(n as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_mqtt_has_them() {
        for (n, bytes) in [(0, &[0][..]), (127, &[127]), (128, &[0x80, 1]), (16_383, &[0xff, 0x7f])] {
            let mut out = Vec::new();
            length(n, &mut out);
            assert_eq!(out, bytes, "{n}");
        }
    }

    #[test]
    fn every_message_is_timed_by_its_own_acknowledgement() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let door = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut connect = [0; 2];
            stream.read_exact(&mut connect).unwrap();
            stream.read_exact(&mut vec![0; usize::from(connect[1])]).unwrap();
            stream.write_all(&[0x20, 2, 0, 0]).unwrap();
            // Two messages of 2 + 1 + 2 + 2 bytes behind their header of two.
            let mut messages = [0; 18];
            stream.read_exact(&mut messages).unwrap();
            assert_eq!((messages[0], &messages[4..9]), (0x32, &b"t\x00\x01p1"[..]));
            stream.write_all(&[0x40, 2, 0, 2, 0x40]).unwrap();
            stream.write_all(&[2, 0, 1]).unwrap();
            let _ = stream.read(&mut [0; 8]);
        });
        let mut publisher = Publisher::open(address, "c", "token", 2).unwrap();
        let now = Instant::now();
        publisher.publish(b"t", b"p1", now);
        publisher.publish(b"t", b"p2", now);
        assert_eq!(publisher.room(), 0);
        publisher.flush().unwrap();
        assert_eq!(publisher.finish().unwrap().len(), 2);
        door.join().unwrap();
    }
}
