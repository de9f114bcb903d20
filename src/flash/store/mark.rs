//! The mark by which a store is known, wherever the map has moved it: found by reading only.

use super::{StoreError, VERSION};
use crate::{config::image, flash::nor::Nor};

pub(super) const MAGIC: &[u8; 16] = b"edgeweir store\r\n";
const MARK_BYTES: usize = MAGIC.len() + 2 + 4;

pub(super) fn mark() -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    let (body, crc) = mark.split_at_mut(MARK_BYTES - 4);
    body[..MAGIC.len()].copy_from_slice(MAGIC);
    body[MAGIC.len()..].copy_from_slice(&VERSION.to_le_bytes());
    crc.copy_from_slice(&image::crc32(body).to_le_bytes());
    mark
}

/// Version of the store on a device, by its mark wherever the map has moved it.
pub(in crate::flash) fn find_mark(nor: &mut dyn Nor) -> Result<Option<u16>, StoreError> {
    const STEP: usize = 16 * 1024;
    let size = nor.geometry().size as usize;
    let mut window = vec![0; STEP + MARK_BYTES];
    for start in (0..size).step_by(STEP) {
        let length = window.len().min(size - start);
        let part = window.get_mut(..length).unwrap_or_default();
        nor.read(start as u32, part)?;
        let mut rest: &[u8] = part;
        while let Some(at) = rest.iter().position(|byte| *byte == MAGIC[0]) {
            rest = rest.get(at..).unwrap_or_default();
            if let Some(version) = mark_version(rest) {
                return Ok(Some(version));
            }
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    Ok(None)
}

/// The version of a mark that begins here.
fn mark_version(bytes: &[u8]) -> Option<u16> {
    let (mark, _) = bytes.split_first_chunk::<MARK_BYTES>()?;
    let (body, crc) = mark.split_last_chunk::<4>()?;
    let (magic, version) = body.split_last_chunk::<2>()?;
    let whole = magic == MAGIC && image::crc32(body).to_le_bytes() == *crc;
    whole.then_some(u16::from_le_bytes(*version))
}
