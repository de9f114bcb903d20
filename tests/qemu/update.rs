//! The update of a device through its boot loader: tampered, cut in the middle, good, unhealthy.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    guest::{Device, Guest, Served, Way},
    harness::Bench,
    image::{Board, keys, timed},
};

/// Byte of the disk where the root image of slot a starts, as in `board/base/lib.sh`.
const ROOT_A_AT: u64 = (4096 + 49152) * 512;
/// Byte of the disk where the boot image of slot b starts, as in `board/base/lib.sh`.
const BOOT_B_AT: u64 = (4096 + 49152 + 16384) * 512;
const REBOOT: Duration = Duration::from_secs(240);

#[test]
fn aarch64_takes_a_signed_update_and_comes_back_from_a_bad_one() {
    check(Board::Aarch64);
}

#[test]
fn armv7_takes_a_signed_update_and_comes_back_from_a_bad_one() {
    check(Board::Armv7);
}

fn check(board: Board) {
    board.image();
    let _timed = timed();
    let bench = Bench::new(&format!("{}-update", board.name()));
    let good = variant(&bench, board, "good", &[], &[]);
    // One board is given a system whose gateway does not come up, the other one that hangs before.
    let sick: &[_] = match board {
        Board::Armv7 => &[
            ("usr/sbin/edgeweir-service", "#!/bin/sh\nexec sleep 1\n"),
            ("etc/edgeweir/healthy_s", "3\n"),
        ],
        Board::Aarch64 => &[("etc/init.d/rcS", "#!/bin/sh\nexec sleep 100000\n")],
    };
    let sick = variant(&bench, board, "sick", &["--serial", "7"], sick);
    let device = Device::new(&bench, board);
    let mut guest = device.boot(Way::BootLoader);
    assert_eq!(guest.must("edgeweir-slot booted"), "a");
    expect_kept(&mut guest, "a");

    // Altered anywhere, it is refused, and nothing is tried at the next boot.
    for (part, words) in [
        ("list.sig", "the signature does not hold"),
        ("boot.fit", "boot.fit does not match the signed list"),
        ("root.squashfs", "root.squashfs does not match the signed list"),
    ] {
        let served = Served::file(&tampered(&bench, &good, part));
        let (code, said) = guest.shell(&format!("edgeweir-update {}", served.url()));
        assert!(code != 0 && said.contains(words), "{part}: {code}: {said}");
    }
    let other = match board {
        Board::Aarch64 => "board qemu-armv7\n",
        Board::Armv7 => "board qemu-aarch64\n",
    };
    let served = Served::file(&resigned(&bench, &good, other));
    let (code, said) = guest.shell(&format!("edgeweir-update {}", served.url()));
    assert!(code != 0 && said.contains("for another board"), "{code}: {said}");
    let served = Served::file(&cut_short(&bench, &good));
    assert!(guest.shell(&format!("edgeweir-update {}", served.url())).0 != 0, "a truncated update");
    expect_kept(&mut guest, "a");

    // The power goes in the middle of writing.
    let served = Served::file(&good.join("edgeweir.update"));
    let disk = OpenOptions::new().write(true).open(device.disk()).unwrap();
    disk.write_all_at(&[0; 1 << 20], BOOT_B_AT).unwrap();
    let before = slot_b(&device);
    guest.line(&format!("edgeweir-update {}", served.url()));
    let mut waits = 0;
    while slot_b(&device) == before {
        std::thread::sleep(Duration::from_millis(10));
        waits += 1;
        assert!(waits < 30_000, "nothing was written: {}", guest.console());
    }
    guest.cut();
    let mut guest = device.boot(Way::BootLoader);
    assert_eq!(guest.must("edgeweir-slot booted"), "a", "the old system is whole");
    expect_named(&mut guest, "b");

    // Installed, tried, healthy, kept.
    guest.must(&format!("edgeweir-update {}", served.url()));
    reboot(&mut guest);
    let install = format!("edgeweir-slot kept || edgeweir-update {}", served.url());
    let (code, said) = guest.shell(&install);
    assert!(code == 0 || said.contains("on trial: wait"), "{code}: {said}");
    assert_eq!(guest.must("edgeweir-slot booted; cat /etc/edgeweir/version"), "b\ngood");
    expect_kept(&mut guest, "b");

    // Older than what runs, an update is taken only when that is asked for.
    let served = Served::file(&sick.join("edgeweir.update"));
    let (code, said) = guest.shell(&format!("edgeweir-update {}", served.url()));
    assert!(code != 0 && said.contains("older than what runs (serial 7,"), "{code}: {said}");

    // A system that is not healthy is tried, and left by itself.
    guest.must(&format!("EDGEWEIR_TRIES=1 edgeweir-update --allow-older {}", served.url()));
    reboot(&mut guest);
    assert_eq!(guest.must("edgeweir-slot booted; cat /etc/edgeweir/version"), "b\ngood");
    if board == Board::Armv7 {
        assert!(guest.console().contains("slot a is not healthy"), "{}", guest.console());
    }
    let told = guest.must("edgeweir-slot show");
    assert!(told.contains("slot b") && told.contains("failed a"), "{told}");
    expect_named(&mut guest, "a");
    guest.cut();

    // The boot loader refuses a boot image that was altered on the disk, and takes the other slot.
    disk.write_all_at(&[0x5a; 16], BOOT_B_AT + 1_000_000).unwrap();
    let guest = device.power_on(Way::BootLoader);
    guest.wait_console("slot b does not boot", REBOOT);
    guest.wait_console("edgeweir: slot a", REBOOT);
}

#[test]
fn aarch64_leaves_a_slot_whose_root_image_is_damaged() {
    leave(Board::Aarch64);
}

#[test]
fn armv7_leaves_a_slot_whose_root_image_is_damaged() {
    leave(Board::Armv7);
}

fn leave(board: Board) {
    board.image();
    let _timed = timed();
    let bench = Bench::new(&format!("{}-leave", board.name()));
    let device = Device::new(&bench, board);
    // As if its writing had been cut short: all behind the first 64 KiB is missing.
    let disk = OpenOptions::new().write(true).open(device.disk()).unwrap();
    disk.write_all_at(&vec![0; 4 << 20], ROOT_A_AT + (64 << 10)).unwrap();
    let mut guest = device.power_on(Way::BootLoader);
    guest.wait_console("the root image of slot a is damaged, leaving slot a", REBOOT);
    guest.wait_answer();
    let told = guest.must("edgeweir-slot show");
    assert!(told.contains("running b, slot b, try none, tries 0, failed a"), "{told}");
    expect_named(&mut guest, "a");
}

/// The gateway says in its status and in the log which slot is bad.
fn expect_named(guest: &mut Guest<'_>, slot: &str) {
    let words = format!("system slot {slot} is damaged or was never healthy");
    for command in ["edgeweir status", "logread"] {
        let said = guest.must(command);
        assert!(said.contains(&words), "{command}: {said}");
    }
}

/// Waits until the device keeps the slot that it runs.
fn expect_kept(guest: &mut Guest<'_>, slot: &str) {
    let said = guest.must("n=0; until edgeweir-slot kept && edgeweir-slot show | grep -q 'try none' || [ $n = 240 ]; do sleep 1; n=$((n+1)); done; edgeweir-slot show");
    assert!(said.contains(&format!("running {slot},")) && said.contains("try none"), "{said}");
}

/// Restarts the device as an owner does, and waits until it answers again.
fn reboot(guest: &mut Guest<'_>) {
    let before = guest.console().matches("U-Boot 20").count();
    guest.line("reboot");
    crate::harness::wait_for("boot loader", REBOOT, || {
        (guest.console().matches("U-Boot 20").count() > before).then_some(())
    });
    guest.wait_answer();
}

fn slot_b(device: &Device<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    fs::File::open(device.disk()).unwrap().read_exact_at(&mut bytes, BOOT_B_AT).unwrap();
    bytes
}

/// Another image of the board, with files of its own; more words for `board/build`.
fn variant(
    bench: &Bench,
    board: Board,
    name: &str,
    words: &[&str],
    files: &[(&str, &str)],
) -> PathBuf {
    let overlay = bench.file(&format!("{name}-overlay"));
    fs::create_dir_all(&overlay).unwrap();
    for (file, text) in files {
        let path = overlay.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let out = bench.file(name);
    let (overlay, out) = (overlay.to_str().unwrap(), out.to_str().unwrap());
    board.build(&[&["--version", name, "--overlay", overlay, "--out", out], words].concat())
}

/// An update with one bit of a part turned over.
fn tampered(bench: &Bench, from: &Path, part: &str) -> PathBuf {
    let dir = parts(bench, from, &format!("tampered-{part}"));
    let path = dir.join(part);
    let mut bytes = fs::read(&path).unwrap();
    // In the middle; of the list, a digit of what is signed.
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    pack(&dir)
}

/// An update with another first line in its list, signed with the right key.
fn resigned(bench: &Bench, from: &Path, first: &str) -> PathBuf {
    let dir = parts(bench, from, "resigned");
    let signed = fs::read_to_string(dir.join("list.sig")).unwrap();
    let rest: String = signed.lines().skip(3).map(|line| format!("{line}\n")).collect();
    fs::write(dir.join("list"), format!("{first}{rest}")).unwrap();
    let mut sign = Command::new("signify-openbsd");
    sign.args(["-S", "-e", "-s"]).arg(keys().join("update.sec"));
    sign.arg("-m").arg(dir.join("list")).arg("-x").arg(dir.join("list.sig"));
    assert!(sign.status().expect("signify-openbsd: run board/setup.sh").success());
    pack(&dir)
}

/// An update of which the end is missing.
fn cut_short(bench: &Bench, from: &Path) -> PathBuf {
    let bytes = fs::read(from.join("edgeweir.update")).unwrap();
    let path = bench.file("cut-short.update");
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    path
}

fn parts(bench: &Bench, from: &Path, name: &str) -> PathBuf {
    let dir = bench.file(name);
    fs::create_dir_all(&dir).unwrap();
    for part in ["list.sig", "boot.fit", "root.squashfs"] {
        fs::copy(from.join(part), dir.join(part)).unwrap();
    }
    dir
}

fn pack(dir: &Path) -> PathBuf {
    let path = dir.join("edgeweir.update");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(dir).arg("-cf").arg(&path).args(["list.sig", "boot.fit", "root.squashfs"]);
    assert!(tar.status().unwrap().success());
    path
}
