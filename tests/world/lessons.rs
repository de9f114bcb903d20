//! The transcripts as lessons: what came in.

use std::{fs, path::Path};

use super::laws;

/// One transcript: its options and what comes in.
pub struct Lesson {
    /// Its `@` lines.
    pub header: String,
    /// Lanes that come in, and what they say.
    pub steps: Vec<(String, Vec<u8>)>,
}

/// Those under `transcripts/`, in the order of their names.
pub fn lessons() -> Vec<Lesson> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| lesson(&fs::read_to_string(file).unwrap())).collect()
}

fn lesson(text: &str) -> Lesson {
    let mut lanes = text.split("--- ");
    let header = lanes.next().unwrap_or_default().to_owned();
    let steps = lanes
        .map(|lane| lane.split_once('\n').unwrap_or((lane, "")))
        .filter(|(name, _)| !name.starts_with("proxy "))
        .map(|(name, body)| {
            (name.to_owned(), laws::ids::shown(body.replace('\n', "\r\n").as_bytes()))
        })
        .collect();
    Lesson { header, steps }
}
