//! The scripts and recipes of builds, images and packages, checked as far as this machine can:
//! no Buildroot, OpenWrt or Yocto tree is here, so their files are parsed, and what they would run
//! is run with stand-ins for their helpers.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    guest::{QUICK, answers},
    harness::{Bench, free_port, peer::Peer, wait_for},
    image::run,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_edgeweir");

fn delivery(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("board/delivery").join(file)
}

#[test]
fn shell_scripts_pass_shellcheck() {
    let listed = Command::new("git")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["grep", "-lE", "^#!/bin/(sh|busybox sh)"])
        .args(["--", "board", "cross", "tests/qemu"])
        .output()
        .expect("git");
    let scripts = String::from_utf8(listed.stdout).unwrap();
    assert!(scripts.lines().count() >= 10, "the scripts are there: {scripts}");
    let mut command = Command::new("shellcheck");
    command.args(["-x", "-s", "sh"]).args(scripts.lines());
    run(command);
}

#[test]
fn systemd_accepts_the_unit() {
    let bench = Bench::new("systemd");
    let unit = fs::read_to_string(delivery("init/edgeweir.service")).unwrap();
    // What it starts is not installed here.
    let path = bench.write("edgeweir.service", &unit.replace("/usr/bin/edgeweir", PROGRAM));
    let output = Command::new("systemd-analyze").arg("verify").arg(path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("edgeweir.service"), "{said}");
}

#[test]
fn the_busybox_init_script_starts_reloads_and_stops_the_gateway() {
    let bench = Bench::new("busybox-init");
    let store = bench.file("store");
    let (port, control) = (free_port(), bench.file("c"));
    let config = bench.write(
        "gateway.toml",
        &format!("[gateway]\nlisten = [\"127.0.0.1:{port}\"]\nmedia_ports = \"31900-31907\"\n"),
    );
    let script = |word: &str| {
        let mut command = Command::new("busybox");
        command
            .arg("sh")
            .arg(delivery("init/S60edgeweir"))
            .arg(word)
            .env("EDGEWEIR_PROGRAM", PROGRAM)
            .env("EDGEWEIR_PIDFILE", bench.file("pid"))
            .env("EDGEWEIR_FLASH", &store)
            .env("EDGEWEIR_FIRST_CONFIG", &config)
            .env("EDGEWEIR_CONTROL", &control)
            .env("EDGEWEIR_OPTIONS", "--log info");
        run(command)
    };
    assert!(script("start").ends_with("OK"));
    wait_for("answer", Duration::from_secs(20), || answers(port, QUICK).then_some(()));
    script("reload");
    wait_for("answer", Duration::from_secs(20), || answers(port, QUICK).then_some(()));
    assert!(script("stop").ends_with("OK"));
    assert!(!answers(port, QUICK), "it still answers");
    assert!(store.exists(), "the first start made the store");
}

/// Each service starts a gateway whose store was never used.
#[test]
fn services_give_a_fresh_device_its_first_configuration() {
    for (file, words) in [
        ("init/S60edgeweir", "--first-config \"$EDGEWEIR_FIRST_CONFIG\""),
        ("init/edgeweir.service", "--first-config ${EDGEWEIR_FIRST_CONFIG}"),
        ("openwrt/edgeweir/files/edgeweir.init", "--first-config /etc/edgeweir/first-boot.toml"),
    ] {
        let text = fs::read_to_string(delivery(file)).unwrap();
        assert!(text.contains(words) && text.contains("/etc/edgeweir/first-boot.toml"), "{file}");
    }
    for file in [
        "openwrt/edgeweir/Makefile",
        "buildroot/package/edgeweir/edgeweir.mk",
        "yocto/meta-edgeweir/recipes-multimedia/edgeweir/edgeweir_0.1.0.bb",
    ] {
        let text = fs::read_to_string(delivery(file)).unwrap();
        assert!(text.contains("board/base/first-boot.toml"), "{file} installs it");
    }
}

#[test]
fn the_procd_script_hands_over_a_command_that_is_respawned() {
    let bench = Bench::new("procd");
    let source = fs::read_to_string(delivery("openwrt/edgeweir/files/edgeweir.init")).unwrap();
    let store = bench.file("store");
    // Stand-ins for rc.common: they say what they are told.
    let stand_ins = format!(
        "config_load() {{ echo load $1; }}\n\
         config_get_bool() {{ eval $1=1; }}\n\
         config_get() {{ eval $1={}; }}\n\
         procd_open_instance() {{ echo open; }}\n\
         procd_set_param() {{ echo \"$@\"; }}\n\
         procd_close_instance() {{ echo close; }}\n\
         {}\nstart_service\n",
        store.display(),
        source.replace("/usr/bin/edgeweir", PROGRAM)
    );
    let path = bench.write("script", &stand_ins);
    let output = Command::new("busybox").arg("sh").arg(path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let command = format!(
        "command {PROGRAM} run --flash {} --first-config /etc/edgeweir/first-boot.toml --syslog",
        store.display()
    );
    assert!(said.lines().any(|line| line == command), "{said}");
    assert!(said.contains("respawn 60 1 0") && said.trim_end().ends_with("close"), "{said}");
}

/// As from a shell: this test may itself be run by make.
fn plain_make() -> Command {
    let mut make = Command::new("make");
    for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"] {
        make.env_remove(name);
    }
    make
}

#[test]
fn make_reads_the_recipes_of_buildroot_and_openwrt() {
    let bench = Bench::new("recipes");
    let external = delivery("buildroot");
    // Stand-ins for Buildroot and OpenWrt, which are not here: they print what the recipes say.
    let buildroot = bench.write(
        "buildroot.mk",
        &format!(
            "BR2_EXTERNAL_EDGEWEIR_PATH := {}\ncargo-package = \n\
             include $(BR2_EXTERNAL_EDGEWEIR_PATH)/external.mk\n\
             all:\n\t@echo $(EDGEWEIR_SITE) $(EDGEWEIR_SITE_METHOD)\n",
            external.display()
        ),
    );
    let mut make = plain_make();
    make.arg("-sf").arg(buildroot);
    assert_eq!(run(make), format!("{} local", env!("CARGO_MANIFEST_DIR")));
    for file in ["LICENSE-MIT", "LICENSE-APACHE", "board/delivery/init/S60edgeweir"] {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(file).exists(), "{file}");
    }

    let top = bench.file("openwrt");
    for (file, text) in [
        ("rules.mk", "INCLUDE_DIR := $(TOPDIR)/include\nBUILD_DIR := $(TOPDIR)/build\n"),
        ("include/package.mk", "BuildPackage = \n"),
        (
            "feeds/packages/lang/rust/rust-package.mk",
            "RustBinPackage = \nall:\n\t@echo $(PKG_NAME) $(PKG_VERSION)\n\
             prepare:\n\t$(Build/Prepare)\n",
        ),
    ] {
        fs::create_dir_all(top.join(file).parent().unwrap()).unwrap();
        fs::write(top.join(file), text).unwrap();
    }
    let mut make = plain_make();
    make.arg("-sC").arg(delivery("openwrt/edgeweir"));
    make.arg(format!("TOPDIR={}", top.display()));
    let mut prepare = plain_make();
    prepare.args(make.get_args()).arg("prepare");
    assert_eq!(run(make), concat!("edgeweir ", env!("CARGO_PKG_VERSION")));
    run(prepare);
    let prepared = top.join(concat!("build/edgeweir-", env!("CARGO_PKG_VERSION")));
    assert!(prepared.join("Cargo.lock").exists() && prepared.join("src/main.rs").exists());
}

#[test]
fn the_yocto_recipe_names_what_is_here() {
    let name = concat!("edgeweir_", env!("CARGO_PKG_VERSION"), ".bb");
    let path = delivery("yocto/meta-edgeweir/recipes-multimedia/edgeweir").join(name);
    let recipe = fs::read_to_string(&path).expect("a recipe of this version");
    for file in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let mut sum = Command::new("md5sum");
        sum.arg(file);
        let sum = run(sum);
        let sum = sum.split(' ').next().unwrap();
        assert!(recipe.contains(&format!("file://{file};md5={sum}")), "{file} has changed: {sum}");
    }
    let root = path.parent().unwrap().join("../../../../../..").canonicalize().unwrap();
    assert_eq!(root, Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap());
}

#[test]
fn the_health_of_a_system_is_asked_where_its_gateway_listens() {
    let bench = Bench::new("slot-healthy");
    let (port, control) = (free_port(), bench.file("c"));
    let bin = bench.file("bin");
    fs::create_dir_all(&bin).unwrap();
    symlink(PROGRAM, bin.join("edgeweir")).unwrap();
    let search = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let healthy = || {
        let mut command = Command::new("busybox");
        command.args(["sh", "board/base/rootfs/usr/sbin/edgeweir-slot", "healthy"]);
        command.env("EDGEWEIR_CONTROL", &control).env("PATH", &search);
        command.env("EDGEWEIR_RUN", bench.file(""));
        command.status().unwrap().success()
    };
    assert!(!healthy(), "no gateway");
    for listen in [format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}"), format!("[::]:{port}")] {
        let text = format!("[gateway]\nlisten = [\"{listen}\"]\nmedia_ports = \"31900-31907\"\n");
        let config = bench.write("gateway.toml", &text);
        let mut gateway = Command::new(PROGRAM);
        gateway.args(["run", "--config", config.to_str().unwrap(), "--control"]).arg(&control);
        let _gateway = Peer::start(&bench, "gateway", gateway);
        wait_for(&listen, Duration::from_secs(20), || healthy().then_some(()));
    }
}

#[test]
fn boot_state_is_written_whole_and_read_from_either_copy() {
    let bench = Bench::new("boot-state");
    let state = bench.file("state");
    fs::write(&state, [0; 4096]).unwrap();
    let cmdline = bench.write("cmdline", "quiet edgeweir.slot=a\n");
    // As on the device, where programs are busybox's.
    let bin = bench.file("bin");
    fs::create_dir_all(&bin).unwrap();
    for program in ["dd", "gzip", "head", "hexdump", "sed", "tail", "tr", "grep", "cat"] {
        let path = bin.join(program);
        fs::write(&path, format!("#!/bin/sh\nexec busybox {program} \"$@\"\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let search = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let slot = |words: &[&str]| {
        let script = "board/base/rootfs/usr/sbin/edgeweir-slot";
        let mut command = Command::new("busybox");
        command.args(["sh", script]).args(words);
        command.env("EDGEWEIR_STATE", &state).env("EDGEWEIR_CMDLINE", &cmdline);
        command.env("EDGEWEIR_RUN", bench.file("")).env("PATH", &search);
        run(command)
    };
    assert_eq!(slot(&["show"]), "running a, slot none, try none, tries none, failed none");
    slot(&["forget"]);
    assert_eq!(slot(&["show"]), "running a, slot a, try none, tries 0, failed b");
    slot(&["kept"]);
    slot(&["try", "b"]);
    let tried = "running a, slot a, try b, tries 3, failed none";
    assert_eq!(slot(&[]), tried);
    let whole = fs::read(&state).unwrap();
    assert_eq!(whole[..512], whole[512..1024], "two copies");
    // Either copy may be cut in the middle.
    for torn in [0, 512] {
        let mut bytes = whole.clone();
        bytes[torn + 20] ^= 1;
        fs::write(&state, &bytes).unwrap();
        assert_eq!(slot(&[]), tried, "copy at {torn} torn");
    }
    // What the boot loader itself would make of these variables.
    let text = bench.write("state.txt", "slot=a\ntry=b\ntries=3\nfailed=\n");
    let by_u_boot = bench.file("by-u-boot");
    let mut make = Command::new("mkenvimage");
    make.args(["-s", "512", "-p", "0", "-o"]).arg(&by_u_boot).arg(text);
    run(make);
    assert_eq!(fs::read(&by_u_boot).unwrap(), whole[..512]);
}
