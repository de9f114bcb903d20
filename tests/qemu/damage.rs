//! Flash that has gone bad: the device comes up with the last good state and says so.

use std::time::Duration;

use embedded_storage_async::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use sequential_storage::{
    cache::{Cache, Uncached},
    map::{MapConfig, MapStorage},
};

use crate::{
    guest::{Device, Way},
    harness::{
        Bench,
        origin::GstOrigin,
        player::{Ffmpeg, Player, Tcp},
        wait_for,
    },
    image::{Board, timed},
};

/// Bytes of a page of the store: an erase block of the board's chip.
const PAGE_BYTES: usize = 256 << 10;

#[test]
fn aarch64_serves_from_a_damaged_store_and_says_so() {
    check(Board::Aarch64);
}

#[test]
fn armv7_serves_from_a_damaged_store_and_says_so() {
    check(Board::Armv7);
}

fn check(board: Board) {
    board.image();
    let _timed = timed();
    let bench = Bench::new(&format!("{}-damage", board.name()));
    let device = Device::new(&bench, board);
    let origin = GstOrigin::start(&bench, "origin");
    let mut guest = device.boot(Way::Direct);
    guest.configure(&device.config("good", origin.port));
    guest.cut();
    let good = device.config_flash();
    let plays = || {
        Player::start(&bench, Ffmpeg, Tcp, &device.url("/open"), 1).finish().expect_pictures();
    };
    // Boots it with a store that was changed, and looks for words in status and log.
    let boot = |flash: &[u8], words: &[&str]| {
        device.damage_config(|store| store.copy_from_slice(flash));
        let mut guest = device.boot(Way::Direct);
        let (_, status) = wait_for("status", Duration::from_secs(120), || {
            device.control("GET", "/v1/status", "").ok().filter(|(status, _)| *status == 200)
        });
        let log = guest.must("logread");
        for words in words {
            assert!(status.contains(words) && log.contains(words), "{words}: {status} {log}");
        }
        plays();
        guest
    };
    let change = || device.control("PUT", "/v1/config", device.config("new", origin.port)).unwrap();

    drop(boot(&full(&good), &["this start cannot be counted on flash: the store is full"]));
    // A change is refused, and what holds goes on.
    let full_flash = device.config_flash();
    let guest = boot(&full_flash, &["the store is full"]);
    let (status, told) = change();
    assert!(status != 200 && told.contains("the store is full"), "{status}: {told}");
    plays();
    drop(guest);

    let newer = newer(&good);
    let guest = boot(&newer, &["version 2 of a newer release", "was found there and is used"]);
    let (status, told) = change();
    assert!(status != 200 && told.contains("not stored, nothing has changed"), "{status}: {told}");
    drop(guest);
    assert!(device.config_flash() == newer, "a store of a newer release was written to");

    // Nothing of a store is left: people still reach the gateway, which says what is wrong.
    device.damage_config(|store| store.fill(0x5a));
    let mut guest = device.boot(Way::Direct);
    let status = guest.must("edgeweir status --json");
    for words in ["cannot be used: not a store", "first-boot.toml is used, and not stored"] {
        assert!(status.contains(words), "{words}: {status}");
    }
    drop(guest);

    // All pages look closed: there is no state of the map like that.
    let mut damaged = good;
    for page in damaged.chunks_mut(PAGE_BYTES) {
        page[..4].fill(0);
        page[PAGE_BYTES - 4..].fill(0);
    }
    let mut guest = boot(&damaged, &["cannot be used", "was found there and is used"]);

    // Mended as board/README.md says.
    guest.must("edgeweir config export >/run/saved.toml");
    guest.must("device=/dev/mtd$(sed -n 's/^mtd\\([0-9]*\\):.*\"config\"$/\\1/p' /proc/mtd)");
    guest.must("edgeweir flash format --force $device");
    guest.must("edgeweir config import /run/saved.toml --flash $device");
    guest.must("kill $(pidof edgeweir); sleep 1; until edgeweir status >/dev/null 2>&1; do usleep 200000; done");
    guest.wait_answer();
    let status = guest.must("edgeweir status --json");
    assert!(!status.contains("was found there"), "{status}");
    plays();
}

/// The store as a newer release would have it: another version in its marks.
fn newer(store: &[u8]) -> Vec<u8> {
    let magic = b"edgeweir store\r\n";
    let mut bytes = store.to_vec();
    let mut marks = 0;
    for at in 0..bytes.len() - 22 {
        if bytes[at..].starts_with(magic) && bytes[at + 16..at + 18] == [1, 0] {
            bytes[at + 16] = 2;
            let crc = crc32(&bytes[at..at + 18]).to_le_bytes();
            bytes[at + 18..at + 22].copy_from_slice(&crc);
            marks += 1;
        }
    }
    assert!(marks >= 2, "{marks} marks of a store");
    bytes
}

/// CRC-32 (IEEE), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// The store filled up by values of keys that only a newer release knows.
fn full(store: &[u8]) -> Vec<u8> {
    let chip = Chip(store.to_vec());
    let range = MapConfig::try_new(0..u32::try_from(store.len()).unwrap()).unwrap();
    let cache: Cache<Uncached, Uncached, Uncached, u8> = Cache::new_uncached();
    let mut map = MapStorage::<u8, _, _>::new(chip, range, cache);
    let mut buffer = vec![0; 64 << 10];
    let mut keys = 60..;
    for size in [60_000, 5000, 450, 40, 12] {
        let value = vec![7; size];
        let fits =
            |key| smol::block_on(map.store_item(&mut buffer, &key, &value.as_slice())).is_ok();
        assert!(!keys.by_ref().all(fits), "values of {size} bytes fit for ever");
    }
    map.destroy().0.0
}

/// The partition in memory, as `sequential-storage` sees it.
struct Chip(Vec<u8>);

#[derive(Debug)]
struct OutOfBounds;

impl NorFlashError for OutOfBounds {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::OutOfBounds
    }
}

impl ErrorType for Chip {
    type Error = OutOfBounds;
}

impl ReadNorFlash for Chip {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), OutOfBounds> {
        let from = offset as usize;
        bytes.copy_from_slice(&self.0[from..from + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }
}

impl NorFlash for Chip {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE_BYTES;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), OutOfBounds> {
        self.0[from as usize..to as usize].fill(0xff);
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let place = &mut self.0[offset as usize..];
        place.iter_mut().zip(bytes).for_each(|(cell, byte)| *cell &= byte);
        Ok(())
    }
}
