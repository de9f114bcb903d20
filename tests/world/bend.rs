//! Bytes bent by chance: bits flipped, parts cut, doubled and spliced, and words put in that parsers
//! look for.

use super::chance::Chance;

/// Words that parsers look for, and numbers at their edges.
const WORDS: [&str; 38] = [
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    " ",
    "\t",
    ":",
    ";",
    ",",
    "=",
    "\"",
    "/",
    "-",
    "$",
    "*",
    "\0",
    "\u{fffd}",
    "0",
    "65535",
    "65536",
    "4294967296",
    "99999999999999999999",
    "-1",
    "rtsp://",
    "rtsp://rtsp://",
    "[::1]",
    "[",
    "]",
    "a=control:",
    "m=video 0 RTP/AVP 96\r\n",
    "url=",
    "Content-Length: 5\r\n",
    "Content-Length: 65536\r\n",
    "CSeq: 1\r\n",
    "Session: S\r\n",
    "Transport: RTP/AVP/TCP;interleaved=254-255\r\n",
    "RTSP/2.0",
    "dest_addr=\":0\"/\":1\"",
];

/// Bends once to five times; `other` is where parts come from.
pub fn mutate(chance: &mut Chance, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len() + 1);
        let end = (at + chance.below(40)).min(bytes.len());
        match chance.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(chance.below(256)).unwrap(),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            4 | 5 => drop(bytes.splice(at..at, chance.one(&WORDS).bytes())),
            6 => drop(bytes.splice(at..end, chance.one(&WORDS).bytes())),
            7 => {
                let from = chance.below(other.len() + 1);
                let to = (from + chance.below(200)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ if chance.chance(20) => bytes.truncate(at),
            _ => {}
        }
    }
}
