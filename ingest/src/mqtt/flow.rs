//! How bytes come and go: reading grows with what there is to read, writing never waits for reading.

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Bytes read at once: least (an idle client) and most (a backlog).
pub(super) const CHUNKS: (usize, usize) = (2 << 10, 64 << 10);

/// How far writing has come.
pub(super) enum Pushed {
    /// The socket took some of it.
    Some,
    /// Everything is on its way.
    All,
}

/// Writes some of what is to be written, or, where that was all, sees it off.
pub(super) async fn push<W: AsyncWrite + Unpin>(writer: &mut W, out: &mut BytesMut) -> std::io::Result<Pushed> {
    if out.is_empty() {
        writer.flush().await.map(|()| Pushed::All)
    } else if writer.write_buf(out).await? > 0 {
        Ok(Pushed::Some)
    } else {
        Err(std::io::ErrorKind::WriteZero.into())
    }
}

/// How much to read next, after `n` bytes came where there was room for `spare`.
pub(super) fn next_chunk(chunk: usize, n: usize, spare: usize) -> usize {
    if n == spare {
        (chunk * 2).min(CHUNKS.1)
    } else if n < chunk / 4 {
        (chunk / 2).max(CHUNKS.0)
    } else {
        chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_read_in_large_pieces_and_an_idle_client_costs_little() {
        let mut chunk = CHUNKS.0;
        for _ in 0..10 {
            chunk = next_chunk(chunk, chunk, chunk);
        }
        assert_eq!(chunk, CHUNKS.1);
        for _ in 0..10 {
            chunk = next_chunk(chunk, 2, chunk);
        }
        assert_eq!(chunk, CHUNKS.0);
    }
}
