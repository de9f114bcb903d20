//! Seeds: what clients and origins say in the transcripts of `tests/`.

use std::{fs, path::Path};

/// A file below the gateway's folder.
pub fn file(path: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap_or_default()
}

/// The transcripts, as they stand there.
pub fn transcripts() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/transcripts");
    let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = files.flatten().map(|file| file.path()).collect();
    files.sort();
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect()
}

/// What one of the peers said at a time, in all transcripts.
pub fn said() -> Vec<Vec<u8>> {
    let texts = transcripts();
    let lanes = texts.iter().flat_map(|text| text.split("--- ").skip(1));
    lanes
        .filter(|lane| lane.starts_with("client > ") || lane.starts_with("origin > "))
        .filter_map(|lane| lane.split_once('\n'))
        .map(|(_, text)| text.replace('\n', "\r\n").into_bytes())
        .collect()
}

/// Values of the headers whose name begins so.
pub fn values(name: &str) -> Vec<Vec<u8>> {
    let all = said();
    let lines = all.iter().flat_map(|text| text.split(|byte| *byte == b'\n'));
    lines
        .filter_map(|line| {
            let (key, value) = line.trim_ascii().split_at_checked(name.len())?;
            key.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii().to_vec())
        })
        .collect()
}

/// Writes seeds into the folder that `FUZZ_SEEDS` names, once for each distinct one.
pub fn write(seeds: impl IntoIterator<Item = Vec<u8>>) {
    let Some(folder) = std::env::var_os("FUZZ_SEEDS") else { return };
    let mut all: Vec<Vec<u8>> = seeds.into_iter().collect();
    all.sort();
    all.dedup();
    for (at, seed) in all.iter().enumerate() {
        let file = Path::new(&folder).join(format!("seed-{at:04}"));
        fs::write(&file, seed).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}
