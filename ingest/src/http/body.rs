//! Bodies: read and unpacked up to a limit and no further, whatever their headers promise.

use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::HttpLimits;

/// Why there is no body.
#[derive(Debug)]
pub(super) enum BadBody {
    /// Longer than is read, packed.
    TooLong,
    /// Longer than is unpacked: the packed bytes, which are all that came.
    Bomb(Bytes),
    /// Not packed as its label says: the bytes as they came.
    Garbled(Bytes),
    /// A label nobody here understands.
    UnknownEncoding,
    /// The sender went away, or took too long.
    Unfinished,
}

/// Reads the body and unpacks it.
pub(super) async fn read(headers: &HeaderMap, body: Body, limits: &HttpLimits) -> Result<Bytes, BadBody> {
    let packing = packing(headers)?;
    let packed = gather(body, limits.body_bytes, limits.body_timeout).await?;
    let (limit, window) = (limits.unpacked_bytes, limits.zstd_window_log);
    match packing {
        None => Ok(packed),
        // A body that takes long to unpack must not hold up the others of its thread.
        Some(packing) => tokio::task::spawn_blocking(move || unpack(packing, &packed, limit, window))
            .await
            .unwrap_or(Err(BadBody::Unfinished)),
    }
}

#[derive(Debug, Clone, Copy)]
enum Packing {
    Gzip,
    Zstd,
}

fn packing(headers: &HeaderMap) -> Result<Option<Packing>, BadBody> {
    let mut labels = headers.get_all(header::CONTENT_ENCODING).iter();
    match (
        labels
            .next()
            .map(|l| l.to_str().unwrap_or_default().trim().to_ascii_lowercase()),
        labels.next(),
    ) {
        (None, _) => Ok(None),
        (Some(label), None) => match label.as_str() {
            "" | "identity" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Packing::Gzip)),
            "zstd" => Ok(Some(Packing::Zstd)),
            _ => Err(BadBody::UnknownEncoding),
        },
        _ => Err(BadBody::UnknownEncoding),
    }
}

/// Whether the body is packed in a way that is understood.
pub(super) fn is_packed(headers: &HeaderMap) -> bool {
    !matches!(packing(headers), Ok(None))
}

async fn gather(body: Body, limit: usize, timeout: Duration) -> Result<Bytes, BadBody> {
    let reading = async {
        let mut stream = body.into_data_stream();
        let mut all = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| BadBody::Unfinished)?;
            if all.len() + chunk.len() > limit {
                return Err(BadBody::TooLong);
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    };
    tokio::time::timeout(timeout, reading)
        .await
        .unwrap_or(Err(BadBody::Unfinished))
}

fn unpack(packing: Packing, packed: &Bytes, limit: usize, window: u32) -> Result<Bytes, BadBody> {
    let mut out = Vec::new();
    let read = match packing {
        Packing::Gzip => bounded(flate2::bufread::MultiGzDecoder::new(&packed[..]), limit, &mut out),
        Packing::Zstd => zstd::stream::read::Decoder::with_buffer(&packed[..]).and_then(|mut decoder| {
            decoder.window_log_max(window)?;
            bounded(decoder, limit, &mut out)
        }),
    };
    match read {
        Ok(n) if n > limit => Err(BadBody::Bomb(packed.clone())),
        Ok(_) => Ok(Bytes::from(out)),
        Err(_) => Err(BadBody::Garbled(packed.clone())),
    }
}

fn bounded(from: impl Read, limit: usize, out: &mut Vec<u8>) -> std::io::Result<usize> {
    from.take(limit as u64 + 1).read_to_end(out)
}
