//! Power lost on a disk (a file or a partition): everything flushed is there, of everything else any
//! sectors in any of the states they passed through. Each such state must show the last acknowledged
//! change or the one under way; never a mixture, never damage, and the store must go on.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a helper of a test may fail it

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use edgeweir::{
    config::{Config, secrets::Secrets},
    flash::{
        disk::{Disk, DiskNor, ERASE_SIZE, SECTOR_BYTES},
        nor::{Geometry, Nor},
        sim::{DiskStep, LoggedDisk},
        store::Store,
    },
};

const SIZE: u32 = 512 << 10;
/// Large changes that leave a page or two of the store blank.
const FILLING: u16 = 66;
const SECTOR: usize = SECTOR_BYTES as usize;

/// What a look at the store shows: sessions of the configuration, password, plugin slots.
type View = (Option<u16>, Option<String>, Option<Vec<u8>>);

/// A small generator; the same seed gives the same numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// Change number `n`; changes of one kind differ, so that every state has its own view.
fn change(store: &mut Store, n: u16) {
    match n % 5 {
        0 | 3 => {
            let mut config = Config::default();
            config.limits.sessions = n + 1;
            store.save_config(&config).unwrap();
        }
        1 => {
            let mut secrets = Secrets::default();
            // Large enough to come round the whole store a few times in a run.
            for name in 0..31 {
                let password = format!("{n:->128}");
                secrets.set_credential(&format!("n{name}"), &"u".repeat(64), &password).unwrap();
            }
            secrets.set_credential("cam", "root", &n.to_string()).unwrap();
            store.save_secrets(&secrets).unwrap();
        }
        2 => store.save_slots(&n.to_le_bytes()).unwrap(),
        _ => {
            // Starts, good ones and bad ones; the view is as it was.
            store.begin().unwrap();
            if n.is_multiple_of(2) {
                store.settled().unwrap();
            }
        }
    }
}

fn view(store: &mut Store) -> View {
    let loaded = store.load_config().unwrap();
    let secrets = store.load_secrets().unwrap();
    let notes: Vec<_> = loaded.notes.iter().chain(&secrets.notes).collect();
    assert!(
        notes.iter().all(|note| note.contains("ended early") || note.contains("is used")),
        "{notes:?}"
    );
    let password = secrets.secrets.credential("cam").map(|found| found.password.to_string());
    if let Some(number) = &password {
        let other = secrets.secrets.credential("n7").unwrap();
        assert_eq!(other.password.trim_start_matches('-'), number, "a mixture");
    }
    let config = loaded.active.map(|(config, _)| config.limits.sessions);
    (config, password, store.load_slots().unwrap())
}

/// A run of changes on a disk: its log, and the views by the log's length when they were reached.
struct Run {
    start: Vec<u8>,
    log: Vec<DiskStep>,
    reached: BTreeMap<usize, View>,
}

fn run(changes: u16, over: impl Fn(LoggedDisk) -> Box<dyn Nor>) -> Run {
    let disk = LoggedDisk::new(vec![0xff; SIZE as usize]);
    let mut store = Store::format(over(disk.clone())).unwrap();
    // Nearly once round the store, so that the run soon takes pages that were used before.
    for n in 0..FILLING {
        change(&mut store, 2000 + 5 * n + 1);
    }
    drop(store);
    let start = disk.bytes();
    let disk = LoggedDisk::new(start.clone());
    let mut store = Store::open(over(disk.clone())).unwrap();
    let mut reached = BTreeMap::from([(0, view(&mut store))]);
    for n in 0..changes {
        change(&mut store, n);
        let seen = view(&mut store);
        reached.insert(disk.log().len(), seen);
    }
    Run { start, log: disk.log(), reached }
}

impl Run {
    /// Calls `check` with disks that a cut may leave, and the views that are allowed there.
    fn crash(
        &self,
        seed: u64,
        subsets: usize,
        mut check: impl FnMut(Vec<u8>, [&View; 2], &mut Dice),
    ) -> usize {
        let mut dice = Dice(seed);
        let mut safe = self.start.clone();
        let mut states = 0;
        let mut from = 0;
        while from < self.log.len() {
            let until = self.log[from..].iter().position(|step| *step == DiskStep::Flush);
            let until = until.map_or(self.log.len(), |length| from + length);
            let epoch = &self.log[from..until];
            for _ in 0..if epoch.is_empty() { 0 } else { subsets } {
                // Power goes after some of the writes of this epoch were issued.
                let issued = 1 + dice.below(epoch.len());
                let disk = torn(&safe, &epoch[..issued], &mut dice);
                let before = self.reached.range(..=from + issued).next_back().unwrap().1;
                let after = self
                    .reached
                    .range(from + issued..)
                    .next()
                    .unwrap_or_else(|| self.reached.iter().next_back().unwrap());
                check(disk, [before, after.1], &mut dice);
                states += 1;
            }
            for step in epoch {
                apply(&mut safe, step);
            }
            from = until + 1;
        }
        states
    }
}

fn apply(bytes: &mut [u8], step: &DiskStep) {
    if let DiskStep::Write(offset, data) = step {
        let start = *offset as usize;
        bytes[start..start + data.len()].copy_from_slice(data);
    }
}

/// Of every sector that was written to, one of the states it passed through.
fn torn(safe: &[u8], writes: &[DiskStep], dice: &mut Dice) -> Vec<u8> {
    let mut passing = safe.to_vec();
    let mut versions: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
    for step in writes {
        let DiskStep::Write(offset, data) = step else { continue };
        apply(&mut passing, step);
        let first = *offset as usize / SECTOR;
        let last = (*offset as usize + data.len()).div_ceil(SECTOR);
        for sector in first..last {
            let bytes = passing[sector * SECTOR..(sector + 1) * SECTOR].to_vec();
            versions.entry(sector).or_default().push(bytes);
        }
    }
    let mut disk = safe.to_vec();
    for (sector, states) in versions {
        let chosen = dice.below(states.len() + 1);
        if let Some(bytes) = chosen.checked_sub(1).map(|at| &states[at]) {
            disk[sector * SECTOR..(sector + 1) * SECTOR].copy_from_slice(bytes);
        }
    }
    disk
}

fn ordered(disk: LoggedDisk) -> Box<dyn Nor> {
    Box::new(DiskNor::new(Box::new(disk), SIZE))
}

#[test]
fn every_state_that_a_cut_may_leave_shows_the_old_or_the_new() {
    let run = run(100, ordered);
    let erased = run
        .log
        .iter()
        .filter(|step| {
            matches!(step, DiskStep::Write(_, data)
        if data.len() == (ERASE_SIZE - SECTOR_BYTES) as usize)
        })
        .count();
    assert!(erased > 16, "the run goes round the store: {erased} blocks erased");
    let seed = 20_261_121;
    let states = run.crash(seed, 2, |bytes, allowed, dice| {
        let disk = LoggedDisk::new(bytes);
        let mut store = Store::open(ordered(disk.clone())).unwrap();
        let seen = view(&mut store);
        assert!(allowed.contains(&&seen), "seed {seed}: {seen:?} is none of {allowed:?}");
        // Life goes on. (On a sample: it costs as much as the rest.)
        if dice.below(4) == 0 {
            for n in [1000, 1001, 1002] {
                change(&mut store, n);
            }
            drop(store);
            let seen = view(&mut Store::open(ordered(disk)).unwrap());
            assert_eq!(seen, (Some(1001), Some("1001".into()), Some(1002u16.to_le_bytes().into())));
        }
    });
    assert!(states > 500, "{states}");
}

/// The same without order: writes are flushed when a change is done and not before.
struct Hasty(LoggedDisk);

impl Nor for Hasty {
    fn geometry(&self) -> Geometry {
        Geometry { size: SIZE, erase_size: ERASE_SIZE }
    }
    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, buffer)
    }
    fn program(&mut self, offset: u32, data: &[u8]) -> io::Result<()> {
        let mut before = vec![0; data.len()];
        self.read(offset, &mut before)?;
        if before.iter().zip(data).any(|(before, data)| data & !before != 0) {
            return Err(io::Error::other("a bit can only be set by erasing"));
        }
        self.0.write(offset, data)
    }
    fn erase(&mut self, offset: u32) -> io::Result<()> {
        self.0.write(offset, &[0xff; ERASE_SIZE as usize])
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }
}

#[test]
fn without_the_order_of_writes_this_very_check_finds_damage() {
    let hasty = |disk| Box::new(Hasty(disk)) as Box<dyn Nor>;
    let run = run(60, hasty);
    let mut broken = 0;
    let states = run.crash(7, 8, |bytes, allowed, _| {
        if broken > 0 {
            return;
        }
        let whole = catch_unwind(AssertUnwindSafe(|| {
            let mut store = Store::open(hasty(LoggedDisk::new(bytes))).unwrap();
            let seen = view(&mut store);
            change(&mut store, 1000);
            change(&mut store, 1001);
            allowed.contains(&&seen)
        }));
        broken += usize::from(!whole.unwrap_or(false));
    });
    assert!(broken > 0, "none of {states} states was broken");
}
