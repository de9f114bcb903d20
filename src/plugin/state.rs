//! What flash remembers of plugins: for each slot the active component and the one before.
//!
//! Components themselves are files, named by their hash. The image has the frame of
//! `config/image.rs` with format numbers of its own:
//!
//! | format | since | body |
//! |---|---|---|
//! | 1 | 0.1.0 | [`Slots`] |

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::{
    config::{
        Name,
        image::{self, Frame, ImageError},
    },
    limits::PLUGIN_SLOTS_STORED_MAX,
};

/// Format that [`encode`] writes.
pub const FORMAT: u16 = 1;
/// Largest image: [`PLUGIN_SLOTS_STORED_MAX`] slots of at most 200 bytes.
pub const STATE_MAX: usize = 4096;

/// All slots that hold something or held something bad.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// By slot, in no order.
    pub slots: Vec<Stored, PLUGIN_SLOTS_STORED_MAX>,
}

/// As many slots are remembered as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// One slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The slot's name.
    pub slot: Name,
    /// What serves.
    pub active: Option<Version>,
    /// What served before.
    pub previous: Option<Version>,
    /// Hash of one that was rolled back for its faults: refused until forced.
    pub banned: Option<[u8; 32]>,
    /// Highest serial that was ever active: lower ones are refused until forced.
    pub serial: u64,
    /// Faults, up to the last change of the slot.
    pub faults: u32,
}

/// One component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// SHA-256 of its file.
    pub hash: [u8; 32],
    /// As given at its install; 0: none.
    pub serial: u64,
}

impl Stored {
    /// An empty slot.
    pub fn new(slot: Name) -> Self {
        Self { slot, active: None, previous: None, banned: None, serial: 0, faults: 0 }
    }
}

impl Slots {
    /// What is stored of a slot.
    pub fn get(&self, name: &str) -> Option<&Stored> {
        self.slots.iter().find(|stored| stored.slot == name)
    }

    /// The hashes of all files that are needed.
    pub fn hashes(&self) -> std::vec::Vec<[u8; 32]> {
        let versions = self.slots.iter().flat_map(|stored| [stored.active, stored.previous]);
        versions.flatten().map(|version| version.hash).collect()
    }

    /// Replaces what is stored of a slot. Where there is no room for another one, the first that holds
    /// no plugin any more is forgotten, with its serial and what is banned there.
    ///
    /// # Errors
    /// When as many slots as may be hold plugins.
    pub fn put(&mut self, stored: Stored) -> Result<(), NoRoom> {
        if let Some(known) = self.slots.iter_mut().find(|known| known.slot == stored.slot) {
            *known = stored;
            return Ok(());
        }
        let is_empty = |known: &Stored| known.active.is_none() && known.previous.is_none();
        if self.slots.is_full() {
            let empty = self.slots.iter().position(is_empty).ok_or(NoRoom)?;
            self.slots.remove(empty);
        }
        self.slots.push(stored).map_err(|_| NoRoom)
    }
}

/// The image of all slots, with its sequence number.
pub fn encode(slots: &Slots, sequence: u64) -> std::vec::Vec<u8> {
    let mut image = vec![0; STATE_MAX];
    // The largest fits, as a test shows.
    let used = image::seal(FORMAT, sequence, slots, &mut image).unwrap_or(0);
    image.truncate(used);
    image
}

/// The slots of an image, and its sequence number.
///
/// # Errors
/// See [`ImageError`].
pub fn decode(image: &[u8]) -> Result<(Slots, u64), ImageError> {
    let frame = Frame::open(image)?;
    Ok((frame.body(FORMAT)?, frame.sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_read_back_and_the_largest_fits() {
        let mut slots = Slots::default();
        for at in 0..PLUGIN_SLOTS_STORED_MAX {
            let version = Some(Version { hash: [at as u8; 32], serial: u64::MAX });
            let name = Name::try_from(format!("{at:032}").as_str()).unwrap();
            slots
                .put(Stored {
                    active: version,
                    previous: version,
                    banned: Some([1; 32]),
                    serial: u64::MAX,
                    faults: u32::MAX,
                    ..Stored::new(name)
                })
                .unwrap();
        }
        let more = Stored::new("more".try_into().unwrap());
        assert_eq!(slots.put(more), Err(NoRoom));
        let image = encode(&slots, 7);
        assert!(image.len() > 1000 && image.len() < STATE_MAX, "{}", image.len());
        assert_eq!(decode(&image), Ok((slots, 7)));
        assert_eq!(decode(&image[1..]), Err(ImageError::Damaged));
    }

    #[test]
    fn a_slot_that_was_emptied_gives_its_place_to_another_name() {
        let name = |at: usize| Name::try_from(format!("s{at}").as_str()).unwrap();
        let version = Some(Version { hash: [1; 32], serial: 1 });
        let mut slots = Slots::default();
        for at in 0..PLUGIN_SLOTS_STORED_MAX {
            slots.put(Stored { active: version, serial: 1, ..Stored::new(name(at)) }).unwrap();
        }
        slots.put(Stored { serial: 9, banned: Some([2; 32]), ..Stored::new(name(3)) }).unwrap();
        assert_eq!(slots.get("s3").unwrap().serial, 9, "while there is room it is remembered");
        slots.put(Stored { active: version, ..Stored::new(name(99)) }).unwrap();
        assert_eq!((slots.get("s3"), slots.slots.len()), (None, PLUGIN_SLOTS_STORED_MAX));
        assert_eq!(slots.put(Stored::new(name(100))), Err(NoRoom));
        slots.put(Stored { faults: 1, ..slots.get("s99").unwrap().clone() }).unwrap();
    }

    #[test]
    fn the_image_of_format_1_is_read_for_ever() {
        let slots = Slots {
            slots: core::iter::once(Stored {
                active: Some(Version { hash: [0xaa; 32], serial: 300 }),
                serial: 300,
                faults: 2,
                ..Stored::new("gate".try_into().unwrap())
            })
            .collect(),
        };
        let mut image = vec![1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 4, b'g', b'a', b't', b'e', 1];
        image.extend([0xaa; 32]);
        image.extend([0xac, 2, 0, 0, 0xac, 2, 2]);
        image.extend(image::crc32(&image).to_le_bytes());
        assert_eq!(encode(&slots, 9), image);
        assert_eq!(decode(&image), Ok((slots, 9)));
    }
}
