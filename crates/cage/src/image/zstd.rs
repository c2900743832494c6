//! Layers compressed with Zstandard (RFC 8878), frame after frame. The decoder keeps one window of a frame in memory, and
//! takes none of more than 100 MiB.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

/// What a frame begins with.
pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Frames in one layer that hold nothing, or are to be skipped: more are of no use to anybody.
const MOST_EMPTY: u32 = 4096;

/// A reader of what the frames hold.
pub(super) struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    within: bool,
    empty: u32,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            decoder: FrameDecoder::new(),
            within: false,
            empty: 0,
        }
    }

    /// Begins the next frame; says whether there is one.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            self.empty += 1;
            if self.empty > MOST_EMPTY {
                return Err(io::Error::other("too many empty zstd frames"));
            }
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => self.skip(length.into())?,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
        if skipped < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// More of the frame that was begun; nothing at its end.
    fn more(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() < buffer.len() && !self.decoder.is_finished() {
            let missing = buffer.len() - self.decoder.can_collect();
            self.decoder
                .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBytes(missing))
                .map_err(io::Error::other)?;
        }
        self.decoder.read(buffer)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            if !self.within && !self.begin()? {
                break;
            }
            self.within = true;
            let count = self.more(buffer)?;
            if count > 0 {
                self.empty = 0;
                return Ok(count);
            }
            self.within = false;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn read(stored: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        Frames::new(stored).read_to_end(&mut all)?;
        Ok(all)
    }

    #[test]
    fn frames_follow_each_other_and_those_to_skip_are_skipped() {
        let (one, two) = (vec![b'x'; 300_000], b"the end".to_vec());
        let pack = |bytes: &[u8]| compress_to_vec(bytes, CompressionLevel::Fastest);
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"???"].concat();
        let stored = [pack(&one), skipped.clone(), pack(b""), pack(&two)].concat();
        assert_eq!(read(&stored).unwrap(), [one, two].concat());
        assert_eq!(read(b"").unwrap(), b"");
        assert!(read(&stored[..stored.len() - 9]).is_err());
        assert!(read(&[&stored[..], b"garbage"].concat()).is_err());
        assert!(read(&skipped[..skipped.len() - 1]).is_err());
        assert!(read(&skipped.repeat(5000)).is_err());
    }

    #[test]
    fn what_the_reference_encoder_writes_is_read() {
        // `zstd -19` of 4096 times "claw\n", with its checksum.
        let mut whole = Vec::new();
        (0..4096).try_for_each(|_| whole.write_all(b"claw\n")).unwrap();
        assert_eq!(read(&hex::decode(REFERENCE).unwrap()).unwrap(), whole);
    }

    const REFERENCE: &str = "28b52ffd04686d000028636c61770a0100f80ff6a205324bdf6d";
}
