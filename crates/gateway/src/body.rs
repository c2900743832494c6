//! Bodies: the one type that answers to a cage have, and reading with bounds.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

/// The body of every answer to a cage.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is there already.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body could not be read within its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More bytes than allowed.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// Nothing came for too long.
    #[error("the body stopped for {} seconds", .0.as_secs())]
    Slow(Duration),
    /// The connection broke or the framing was wrong.
    #[error("the body broke off")]
    Broken,
}

/// Reads a whole body of at most `cap` bytes, waiting at most `idle` for each piece. Trailers are dropped.
///
/// # Errors
/// See [`BodyError`].
pub(crate) async fn read<B>(body: B, cap: usize, idle: Duration) -> Result<Bytes, BodyError>
where
    B: http_body::Body<Data = Bytes>,
{
    let mut body = std::pin::pin!(body);
    let expected = body.size_hint();
    if expected.lower() > cap as u64 {
        return Err(BodyError::TooLarge(cap));
    }
    // Most bodies come in one piece, which is then the whole of it as it is.
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(idle, body.frame()).await;
        match frame.map_err(|_| BodyError::Slow(idle))? {
            None if whole.is_empty() => return Ok(first),
            None => return Ok(whole.freeze()),
            Some(Err(_)) => return Err(BodyError::Broken),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                let so_far = first.len().max(whole.len());
                if so_far + data.len() > cap {
                    return Err(BodyError::TooLarge(cap));
                }
                if so_far == 0 {
                    first = data;
                    continue;
                }
                if whole.is_empty() {
                    let expected = usize::try_from(expected.lower()).unwrap_or(0);
                    whole.reserve(expected.max(first.len()));
                    whole.extend_from_slice(&first);
                }
                whole.extend_from_slice(&data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn a_body_over_its_bound_is_refused() {
        let idle = Duration::from_secs(1);
        assert_eq!(read(full("12345"), 5, idle).await.unwrap(), "12345");
        assert_eq!(read(full("123456"), 5, idle).await, Err(BodyError::TooLarge(5)));
        let pieces = || {
            let pieces =
                ["ab", "", "cde", "f"].map(|piece| Ok::<_, io::Error>(Frame::data(Bytes::from(piece))));
            StreamBody::new(futures_util::stream::iter(pieces))
        };
        assert_eq!(read(pieces(), 6, idle).await.unwrap(), "abcdef");
        assert_eq!(read(pieces(), 5, idle).await, Err(BodyError::TooLarge(5)));
    }
}
