//! Messages on a stream: each behind its length in two bytes (RFC 1035, 4.2.2).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, sink};

/// The next message.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Reads the next message. Of one that is longer than `most` bytes, returns the first `first`
/// bytes, and reads and discards the rest.
pub async fn read_bounded(stream: &mut (impl AsyncRead + Unpin), most: usize, first: usize) -> io::Result<Bounded> {
    let length = usize::from(stream.read_u16().await?);
    let mut message = vec![0; if length > most { first } else { length }];
    stream.read_exact(&mut message).await?;
    if length <= most {
        return Ok(Bounded::Whole(message));
    }
    let rest = (length - first) as u64;
    let discarded = copy(&mut stream.take(rest), &mut sink()).await?;
    if discarded == rest { Ok(Bounded::TooLong(message)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// A message of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Bounded {
    Whole(Vec<u8>),
    /// The first bytes of one that is too long.
    TooLong(Vec<u8>),
}

/// Writes a message, at once with its length: some peers expect both in one segment.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::{Bounded, read_bounded};

    #[tokio::test]
    async fn a_message_that_is_too_long_is_skipped() {
        let mut stream: &[u8] = b"\0\x03abc\0\x05abcde\0\x02ab\0\x05a";
        let mut read = async || read_bounded(&mut stream, 4, 2).await.map_err(|error| error.kind());
        assert_eq!(read().await, Ok(Bounded::Whole(b"abc".into())));
        assert_eq!(read().await, Ok(Bounded::TooLong(b"ab".into())));
        assert_eq!(read().await, Ok(Bounded::Whole(b"ab".into())));
        assert_eq!(read().await, Err(std::io::ErrorKind::UnexpectedEof));
    }
}
