//! [`Config`] to bytes for the store and back, versioned and checked.
//!
//! ```text
//!  0        2                  10                            n-4        n
//!  +--------+------------------+-----------------------------+----------+
//!  | format | sequence         | body: the format's struct,  | CRC-32   |
//!  | u16 LE | u64 LE           | postcard                    | u32 LE   |
//!  +--------+------------------+-----------------------------+----------+
//!                                 CRC over all before it (IEEE, as in zip)
//! ```
//!
//! This frame is the same for every format, so that a release can tell what a newer one wrote.
//! postcard does not describe itself and knows no missing field: a change of the schema takes the
//! next format number, keeps the old struct and adds a step from it to the new one, and adds the
//! stored image of the old format to `tests/images`.
//!
//! | format | since | body |
//! |---|---|---|
//! | 1 | 0.1.0 | as now, without plugins, `coalesce_us`, `worker_policy` and `filters` |
//! | 2 | 0.2.0 | as now, without `methods`, `strip`, `connections_per_client` and `tracks_per_client`, and 32 origins and routes at most |
//! | 3 | 0.2.0 | [`Config`] |
//!
//! A configuration takes at most [`IMAGE_MAX`] bytes: not everything can be at its longest at once, or
//! it would not fit a page of the store. The rules say so before it gets here.
//!
//! The CRC is our own although the store keeps one for each item: it covers the image wherever it
//! is (a file, an upload), and it does not depend on the page format of the store.

use core::fmt;

use serde::{Serialize, de::DeserializeOwned};

use super::{Config, rules, v1, v2};
use crate::limits::CONFIG_IMAGE_MAX_BYTES;

/// Format that [`encode`] writes.
pub const FORMAT: u16 = 3;
/// Bytes of a frame around its body.
pub(super) const FRAME_BYTES: usize = HEAD_BYTES + CRC_BYTES;
/// Largest image of a configuration, in bytes.
pub const IMAGE_MAX: usize = CONFIG_IMAGE_MAX_BYTES;

const HEAD_BYTES: usize = 2 + 8;
const CRC_BYTES: usize = 4;

// The store's items carry a 16-bit length, and its smallest logical page has 64 KiB.
const _: () = assert!(IMAGE_MAX < 60 * 1024, "the largest configuration must fit one flash page");

/// Why bytes are no image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// Fewer bytes than a frame has.
    Short,
    /// The checksum is wrong: bits have changed.
    Damaged,
    /// Whole, but written by a newer release. The bytes are worth keeping.
    Newer {
        /// The format found.
        format: u16,
        /// Its sequence number.
        sequence: u64,
    },
    /// Whole, but not what the format says.
    Malformed,
    /// A configuration that must not run.
    Broken(rules::Broken),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => write!(f, "found fewer bytes than an image has"),
            Self::Damaged => write!(f, "the checksum is wrong, bits on flash have changed"),
            Self::Newer { format, sequence } => write!(
                f,
                "number {sequence} has format {format} of a newer release, this one reads up to \
                 {FORMAT}; it is kept for the newer release"
            ),
            Self::Malformed => write!(f, "the checksum is right but the content is not an image"),
            Self::Broken(broken) => write!(f, "the image breaks a rule: {broken}"),
        }
    }
}

impl core::error::Error for ImageError {}

/// The image of a configuration, with its sequence number.
pub fn encode(config: &Config, sequence: u64) -> Vec<u8> {
    let mut image = vec![0; bytes(config)];
    // It is exactly as large as was counted.
    let used = seal(FORMAT, sequence, config, &mut image).unwrap_or(0);
    image.truncate(used);
    image
}

/// Bytes that the image of a configuration takes.
pub(super) fn bytes(config: &Config) -> usize {
    let body = postcard::serialize_with_flavor(config, postcard::ser_flavors::Size::default());
    // Counting writes nothing, so nothing can be too small for it.
    FRAME_BYTES + body.unwrap_or(usize::MAX / 2)
}

/// The configuration of an image, and its sequence number.
///
/// # Errors
/// See [`ImageError`]. An image is taken whole or not at all.
pub fn decode(image: &[u8]) -> Result<(Config, u64), ImageError> {
    let frame = Frame::open(image)?;
    let mut config = match frame.format {
        1 => from_v1(&frame)?,
        2 => from_v2(&frame)?,
        _ => frame.body(FORMAT)?,
    };
    rules::check(&config).map_err(ImageError::Broken)?;
    config.plugins.respell().map_err(|_| ImageError::Malformed)?;
    Ok((config, frame.sequence))
}

/// Apart, so that two configurations lie on the stack only while an old image is read.
#[inline(never)]
fn from_v1(frame: &Frame<'_>) -> Result<Config, ImageError> {
    frame.body::<v1::Config>(1).map(v2::Config::from).map(Config::from)
}

#[inline(never)]
fn from_v2(frame: &Frame<'_>) -> Result<Config, ImageError> {
    frame.body::<v2::Config>(2).map(Config::from)
}

/// Sequence number of a whole image of any format.
///
/// # Errors
/// [`ImageError::Short`] or [`ImageError::Damaged`].
pub fn sequence(image: &[u8]) -> Result<u64, ImageError> {
    Frame::open(image).map(|frame| frame.sequence)
}

/// Writes a frame around a value; the bytes used, or none when `out` is too small.
pub(crate) fn seal<T: Serialize>(
    format: u16,
    sequence: u64,
    value: &T,
    out: &mut [u8],
) -> Option<usize> {
    out.get_mut(..2)?.copy_from_slice(&format.to_le_bytes());
    out.get_mut(2..HEAD_BYTES)?.copy_from_slice(&sequence.to_le_bytes());
    let body = postcard::to_slice(value, out.get_mut(HEAD_BYTES..)?).ok()?.len();
    let end = HEAD_BYTES + body;
    let crc = crc32(out.get(..end)?);
    out.get_mut(end..end + CRC_BYTES)?.copy_from_slice(&crc.to_le_bytes());
    Some(end + CRC_BYTES)
}

/// A whole frame, its body not yet looked into.
pub(crate) struct Frame<'a> {
    format: u16,
    pub(crate) sequence: u64,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(crate) fn open(image: &'a [u8]) -> Result<Self, ImageError> {
        let (rest, crc) = image.split_last_chunk::<CRC_BYTES>().ok_or(ImageError::Short)?;
        let (format, after) = rest.split_first_chunk::<2>().ok_or(ImageError::Short)?;
        let (sequence, body) = after.split_first_chunk::<8>().ok_or(ImageError::Short)?;
        if crc32(rest) != u32::from_le_bytes(*crc) {
            return Err(ImageError::Damaged);
        }
        Ok(Self {
            format: u16::from_le_bytes(*format),
            sequence: u64::from_le_bytes(*sequence),
            body,
        })
    }

    /// Its format.
    pub(crate) const fn format(&self) -> u16 {
        self.format
    }

    /// The body, which must be all used, as that of `format`: any other is newer or nonsense.
    pub(crate) fn body<T: DeserializeOwned>(&self, format: u16) -> Result<T, ImageError> {
        if self.format > format {
            return Err(ImageError::Newer { format: self.format, sequence: self.sequence });
        }
        if self.format != format {
            return Err(ImageError::Malformed);
        }
        match postcard::take_from_bytes(self.body) {
            Ok((value, [])) => Ok(value),
            _ => Err(ImageError::Malformed),
        }
    }
}

/// CRC-32 (IEEE 802.3, reflected), by table.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < table.len() {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc: u32, byte| {
        // The index has 8 bits, the table 256 entries.
        let [low, ..] = crc.to_le_bytes();
        TABLE[usize::from(low ^ byte)] ^ (crc >> 8)
    })
}

#[cfg(test)]
pub(crate) mod tests;
