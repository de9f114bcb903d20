//! Starts that ended early, and the configurations that are left aside because of them.
//!
//! One small value, framed as all are, holds all of it:
//!
//! ```text
//!   format 1   early: starts in a row that did not live long
//!              aside: sequence numbers, first and last, of configurations that are left aside
//!              fallbacks: how often that has happened
//! ```
//!
//! It is written when the gateway starts and once more when the start has proved good, or another
//! configuration or other plugins are stored, 32 bytes each time. Configurations are left aside by
//! number and stay in the history; a newer one has a higher number and is trusted again. So falling
//! back is this one write: no cut can tear it.
//!
//! Whoever keeps other things that a fallback takes back (plugin slots) notes beside them the number
//! of the last fallback it has followed, and acts when [`Start::fallbacks`] is higher. Not in here:
//! what counts as a good start.

use serde::{Deserialize, Serialize};

use super::{KEY_BOOT, Store, StoreError};
use crate::{
    config::image::{self, Frame},
    limits::EARLY_DEATHS,
};

/// Format of the value.
const FORMAT: u16 = 1;
const BYTES_MAX: usize = 64;

/// What is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Boot {
    early: u8,
    aside: Option<(u64, u64)>,
    fallbacks: u32,
}

/// What a start finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Too many starts have ended early, and this one falls back.
    pub fell_back: bool,
    /// Fallbacks in the life of this store, this one included.
    pub fallbacks: u32,
    /// What an operator should know.
    pub notes: Vec<String>,
}

impl Boot {
    /// Damaged, or of a newer release: as if there had been none. Losing it costs a few starts.
    pub(super) fn read(image: &[u8]) -> Self {
        Frame::open(image).and_then(|frame| frame.body(FORMAT)).unwrap_or_default()
    }

    /// Whether a configuration is left aside.
    pub(super) fn leaves_aside(&self, sequence: u64) -> bool {
        self.aside.is_some_and(|(first, last)| (first..=last).contains(&sequence))
    }
}

impl Store {
    /// Counts a start. When [`EARLY_DEATHS`] in a row have ended early, the configuration that they
    /// used is left aside from now on, if there is an earlier one.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Corrupt`] or [`StoreError::Io`]: the start is not
    /// counted, and what is stored is as it was.
    pub fn begin(&mut self) -> Result<Start, StoreError> {
        let mut boot = self.boot;
        let mut start = Start::default();
        if boot.early >= EARLY_DEATHS {
            start.fell_back = true;
            start.notes.push(self.fall_back(&mut boot)?);
        }
        boot.early = boot.early.saturating_add(1);
        start.fallbacks = boot.fallbacks;
        self.write_boot(boot)?;
        Ok(start)
    }

    /// The start has proved good, or was ended on purpose. Writes nothing when that is known.
    ///
    /// # Errors
    /// Those of [`Self::begin`].
    pub fn settled(&mut self) -> Result<(), StoreError> {
        match self.boot {
            Boot { early: 0, .. } => Ok(()),
            boot => self.write_boot(Boot { early: 0, ..boot }),
        }
    }

    fn fall_back(&mut self, boot: &mut Boot) -> Result<String, StoreError> {
        let early = core::mem::take(&mut boot.early);
        boot.fallbacks = boot.fallbacks.saturating_add(1);
        let ended = format!("the last {early} starts ended early");
        let images = self.images()?;
        let mut good = images
            .iter()
            .filter(|(sequence, image)| {
                !boot.leaves_aside(*sequence) && image::decode(image).is_ok()
            })
            .map(|(sequence, _)| *sequence);
        Ok(match (good.next(), good.next()) {
            (Some(used), Some(earlier)) => {
                let last = boot.aside.map_or(used, |(_, last)| last.max(used));
                boot.aside = Some((used, last));
                format!("{ended}: configuration {used} is left aside, {earlier} is used")
            }
            // Nothing is left to try: begin anew with the newest.
            _ => {
                boot.aside = None;
                format!("{ended}, and there is no earlier configuration to go back to")
            }
        })
    }

    fn write_boot(&mut self, boot: Boot) -> Result<(), StoreError> {
        let mut bytes = [0; BYTES_MAX];
        let used = image::seal(FORMAT, 0, &boot, &mut bytes).unwrap_or(0);
        self.put(KEY_BOOT, bytes.get(..used).unwrap_or_default())?;
        self.boot = boot;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        flash::{nor::Geometry, sim::SimNor},
    };

    fn stored(configs: u16) -> SimNor {
        let nor = SimNor::new(Geometry { size: 1 << 20, erase_size: 4096 });
        let mut store = Store::format(Box::new(nor.clone())).unwrap();
        for sessions in 1..=configs {
            save(&mut store, sessions);
        }
        nor
    }

    fn save(store: &mut Store, sessions: u16) -> u64 {
        let mut config = Config::default();
        config.limits.sessions = sessions;
        store.save_config(&config).unwrap()
    }

    /// A start of the gateway: the sessions of the configuration it uses.
    fn start(nor: &SimNor) -> (u16, Start, Store) {
        let mut store = Store::open(Box::new(nor.clone())).unwrap();
        let start = store.begin().unwrap();
        let config = store.load_config().unwrap().active.unwrap().0;
        (config.limits.sessions, start, store)
    }

    fn dies_early(nor: &SimNor, times: u8) {
        for _ in 0..times {
            let (_, seen, _) = start(nor);
            assert!(!seen.fell_back);
        }
    }

    #[test]
    fn the_start_after_three_early_deaths_uses_the_previous_configuration_and_says_so() {
        let nor = stored(3);
        dies_early(&nor, EARLY_DEATHS);
        let (sessions, seen, mut store) = start(&nor);
        assert_eq!((sessions, seen.fell_back, seen.fallbacks), (2, true, 1));
        assert_eq!(
            seen.notes,
            ["the last 3 starts ended early: configuration 3 is left aside, 2 is used"]
        );
        let notes = store.load_config().unwrap().notes;
        assert_eq!(
            notes,
            [
                "configuration 3 is left aside: starts with it ended early",
                "configuration 2 is used"
            ]
        );
        assert!(store.history().unwrap()[0].fault.as_ref().unwrap().contains("ended early"));
        // It stays aside after a good start, until there is a newer one.
        store.settled().unwrap();
        let (sessions, seen, mut store) = start(&nor);
        assert_eq!((sessions, seen.fell_back, seen.fallbacks), (2, false, 1));
        assert_eq!(save(&mut store, 9), 4);
        assert_eq!(start(&nor).0, 9);
    }

    #[test]
    fn a_good_start_or_an_ordered_stop_forgets_the_early_ones() {
        let nor = stored(3);
        for _ in 0..5 {
            dies_early(&nor, EARLY_DEATHS - 1);
            let (sessions, seen, mut store) = start(&nor);
            assert_eq!((sessions, seen.fell_back), (3, false));
            store.settled().unwrap();
        }
    }

    #[test]
    fn a_configuration_is_not_left_aside_for_what_ended_early_before_it() {
        let nor = stored(3);
        dies_early(&nor, EARLY_DEATHS - 1);
        let (_, _, mut store) = start(&nor);
        assert_eq!(save(&mut store, 9), 4);
        drop(store);
        for _ in 0..EARLY_DEATHS {
            let (sessions, seen, _) = start(&nor);
            assert_eq!((sessions, seen.fell_back), (9, false));
        }
        assert_eq!(start(&nor).0, 3, "those with it count");
    }

    #[test]
    fn plugins_are_not_taken_back_for_what_ended_early_before_them() {
        let nor = stored(3);
        for round in 0..3 {
            dies_early(&nor, EARLY_DEATHS - 1);
            let (_, seen, mut store) = start(&nor);
            assert!(!seen.fell_back);
            store.save_slots(&[round]).unwrap();
        }
        dies_early(&nor, EARLY_DEATHS);
        assert!(start(&nor).1.fell_back, "those with them count");
    }

    #[test]
    fn each_further_fallback_goes_one_back_and_at_the_end_begins_anew() {
        let nor = stored(3);
        let mut used = Vec::new();
        for round in 1..=4 {
            dies_early(&nor, if round == 1 { EARLY_DEATHS } else { EARLY_DEATHS - 1 });
            let (sessions, seen, _) = start(&nor);
            assert!(seen.fell_back);
            assert_eq!(seen.fallbacks, round);
            used.push(sessions);
        }
        assert_eq!(used, [2, 1, 3, 2]);
    }

    #[test]
    fn the_very_configuration_that_was_left_aside_may_be_stored_again() {
        let nor = stored(2);
        dies_early(&nor, EARLY_DEATHS);
        let (sessions, _, mut store) = start(&nor);
        assert_eq!(sessions, 1);
        assert_eq!(save(&mut store, 2), 3);
        assert_eq!(start(&nor).0, 2);
        // And so may the one that is used instead.
        let nor = stored(2);
        dies_early(&nor, EARLY_DEATHS);
        let (_, _, mut store) = start(&nor);
        assert_eq!(save(&mut store, 1), 3);
        assert_eq!(store.load_config().unwrap().notes, [""; 0]);
    }

    #[test]
    fn with_one_configuration_it_stays() {
        let nor = stored(1);
        dies_early(&nor, EARLY_DEATHS);
        let (sessions, seen, _) = start(&nor);
        assert_eq!((sessions, seen.fell_back), (1, true));
        assert!(seen.notes[0].ends_with("no earlier configuration to go back to"));
    }

    #[test]
    fn a_start_writes_a_few_words_and_a_good_one_as_many_again() {
        let nor = stored(3);
        let mut store = Store::open(Box::new(nor.clone())).unwrap();
        let words = |before: u64| (nor.steps() - before) * 4;
        let before = nor.steps();
        store.begin().unwrap();
        assert!(words(before) <= 32, "{} bytes", words(before));
        let before = nor.steps();
        store.settled().unwrap();
        assert!(words(before) <= 32, "{} bytes", words(before));
        let before = nor.steps();
        store.settled().unwrap();
        assert_eq!(words(before), 0);
    }

    #[test]
    fn the_stored_value_of_format_1_still_reads() {
        let image = include_bytes!("../../../tests/images/boot-v1.bin");
        let expected = Boot { early: 2, aside: Some((4, 6)), fallbacks: 3 };
        assert_eq!(Boot::read(image), expected);
        let mut newer = image.to_vec();
        newer[0] = 2;
        assert_eq!(Boot::read(&newer), Boot::default());
    }
}
