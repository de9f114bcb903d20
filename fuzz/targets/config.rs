//! The text of a configuration: what is taken can be printed, stored and read back; what is not is
//! refused in one line.
#![no_main]

use edgeweir::config::{image, print, text};
use edgeweir_fuzz::seeds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds::write(texts()), |data: &[u8]| {
    let Ok(toml) = core::str::from_utf8(data) else { return };
    match text::parse(toml) {
        Ok(config) => {
            let printed = print::print(&config);
            assert_eq!(text::parse(&printed).as_ref(), Ok(&config), "{printed}");
            assert_eq!(print::print(&config), printed);
            let stored = image::encode(&config, 7);
            assert_eq!(image::decode(&stored), Ok((config, 7)));
        }
        Err(error) => {
            let said = error.display("f").to_string();
            assert!(!said.contains('\n') && said.len() < 2_000, "one line: {said:?}");
        }
    }
});

/// The example, what it says with each thing on, and the lines that transcripts set.
fn texts() -> Vec<Vec<u8>> {
    let mut all = vec![seeds::file("src/config/example.toml"), seeds::file("board/base.toml")];
    let route = "[[origin]]\nname = \"a\"\nurl = \"rtsp://198.51.100.1\"\nweight = 3\n\
        [[plugin]]\nslot = \"p\"\non_fault = \"pass\"\n[plugin.config]\nx = [1, 2.5, { a = \"b\" }]\n\
        [[route]]\npath = \"/live/**\"\norigins = [\"a\"]\n";
    for transcript in seeds::transcripts() {
        let set = transcript.lines().filter_map(|line| line.strip_prefix("@set "));
        all.push(format!("{route}{}\n", set.collect::<Vec<_>>().join("\n")).into_bytes());
    }
    all
}
