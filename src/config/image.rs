//! [`Config`] to bytes for the store and back, versioned and checked.
//!
//! ```text
//!  0        2                  10                            n-4        n
//!  +--------+------------------+-----------------------------+----------+
//!  | format | sequence         | body: the format's struct,  | CRC-32   |
//!  | u16 LE | u64 LE           | postcard                    | u32 LE   |
//!  +--------+------------------+-----------------------------+----------+
//!                                 CRC over all before it (IEEE, as in zip)
//! ```
//!
//! This frame is the same for every format, so that a release can tell what a newer one wrote.
//! postcard does not describe itself and knows no missing field: a change of the schema takes the
//! next format number, keeps the old struct and adds a step from it to the new one, and adds the
//! stored image of the old format to `tests/images`.
//!
//! | format | since | body |
//! |---|---|---|
//! | 1 | 0.1.0 | [`Config`] |
//!
//! The CRC is our own although the store keeps one for each item: it covers the image wherever it
//! is (a file, an upload), and it does not depend on the page format of the store.

use core::fmt;

use heapless::Vec;
use postcard::experimental::max_size::MaxSize;
use serde::{Serialize, de::DeserializeOwned};

use super::{Config, rules};

/// Format that [`encode`] writes.
pub const FORMAT: u16 = 1;
/// Bytes of a frame around its body.
pub(super) const FRAME_BYTES: usize = HEAD_BYTES + CRC_BYTES;
/// Largest image of a configuration, in bytes.
pub const IMAGE_MAX: usize = FRAME_BYTES + Config::POSTCARD_MAX_SIZE;

const HEAD_BYTES: usize = 2 + 8;
const CRC_BYTES: usize = 4;

// The store's items carry a 16-bit length, and its smallest logical page has 64 KiB.
const _: () = assert!(IMAGE_MAX < 60 * 1024, "the largest configuration must fit one flash page");

/// Why bytes are no image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// Fewer bytes than a frame has.
    Short,
    /// The checksum is wrong: bits have changed.
    Damaged,
    /// Whole, but written by a newer release. The bytes are worth keeping.
    Newer {
        /// The format found.
        format: u16,
        /// Its sequence number.
        sequence: u64,
    },
    /// Whole, but not what the format says.
    Malformed,
    /// A configuration that must not run.
    Broken(rules::Broken),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => write!(f, "found fewer bytes than an image has"),
            Self::Damaged => write!(f, "the checksum is wrong, bits on flash have changed"),
            Self::Newer { format, sequence } => write!(
                f,
                "number {sequence} has format {format} of a newer release, this one reads up to \
                 {FORMAT}; it is kept for the newer release"
            ),
            Self::Malformed => write!(f, "the checksum is right but the content is not an image"),
            Self::Broken(broken) => write!(f, "the image breaks a rule: {broken}"),
        }
    }
}

impl core::error::Error for ImageError {}

/// The image of a configuration, with its sequence number.
pub fn encode(config: &Config, sequence: u64) -> Vec<u8, IMAGE_MAX> {
    let mut image = Vec::new();
    // IMAGE_MAX is the largest size there is (a test encodes the largest configuration), so both
    // steps have room.
    let _ = image.resize_default(IMAGE_MAX);
    let used = seal(FORMAT, sequence, config, &mut image).unwrap_or(0);
    image.truncate(used);
    image
}

/// The configuration of an image, and its sequence number.
///
/// # Errors
/// See [`ImageError`]. An image is taken whole or not at all.
pub fn decode(image: &[u8]) -> Result<(Config, u64), ImageError> {
    let frame = Frame::open(image)?;
    let config: Config = frame.body(FORMAT)?;
    rules::check(&config).map_err(ImageError::Broken)?;
    Ok((config, frame.sequence))
}

/// Sequence number of a whole image of any format.
///
/// # Errors
/// [`ImageError::Short`] or [`ImageError::Damaged`].
pub fn sequence(image: &[u8]) -> Result<u64, ImageError> {
    Frame::open(image).map(|frame| frame.sequence)
}

/// Writes a frame around a value; the bytes used, or none when `out` is too small.
pub(crate) fn seal<T: Serialize>(
    format: u16,
    sequence: u64,
    value: &T,
    out: &mut [u8],
) -> Option<usize> {
    out.get_mut(..2)?.copy_from_slice(&format.to_le_bytes());
    out.get_mut(2..HEAD_BYTES)?.copy_from_slice(&sequence.to_le_bytes());
    let body = postcard::to_slice(value, out.get_mut(HEAD_BYTES..)?).ok()?.len();
    let end = HEAD_BYTES + body;
    let crc = crc32(out.get(..end)?);
    out.get_mut(end..end + CRC_BYTES)?.copy_from_slice(&crc.to_le_bytes());
    Some(end + CRC_BYTES)
}

/// A whole frame, its body not yet looked into.
pub(crate) struct Frame<'a> {
    format: u16,
    pub(crate) sequence: u64,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(crate) fn open(image: &'a [u8]) -> Result<Self, ImageError> {
        let (rest, crc) = image.split_last_chunk::<CRC_BYTES>().ok_or(ImageError::Short)?;
        let (format, after) = rest.split_first_chunk::<2>().ok_or(ImageError::Short)?;
        let (sequence, body) = after.split_first_chunk::<8>().ok_or(ImageError::Short)?;
        if crc32(rest) != u32::from_le_bytes(*crc) {
            return Err(ImageError::Damaged);
        }
        Ok(Self {
            format: u16::from_le_bytes(*format),
            sequence: u64::from_le_bytes(*sequence),
            body,
        })
    }

    /// The body, which must be all used. `newest` is the newest format that the caller reads;
    /// as long as it is the only one, any other is newer or nonsense.
    pub(crate) fn body<T: DeserializeOwned>(&self, newest: u16) -> Result<T, ImageError> {
        if self.format > newest {
            return Err(ImageError::Newer { format: self.format, sequence: self.sequence });
        }
        if self.format != newest {
            return Err(ImageError::Malformed);
        }
        match postcard::take_from_bytes(self.body) {
            Ok((value, [])) => Ok(value),
            _ => Err(ImageError::Malformed),
        }
    }
}

/// CRC-32 (IEEE 802.3, reflected), by table.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < table.len() {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc: u32, byte| {
        // The index has 8 bits, the table 256 entries.
        let [low, ..] = crc.to_le_bytes();
        TABLE[usize::from(low ^ byte)] ^ (crc >> 8)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    use super::*;
    use crate::config::{
        HealthCheck, Limits, Name, Origin, PortRange, Route,
        text::{AUTHS, ENDPOINTS, POLICIES, REDIRECTS, TRANSPORTS},
    };

    /// The largest configuration that the types allow; every number at its largest.
    pub(crate) fn largest() -> Box<Config> {
        let mut config = Box::<Config>::default();
        let name: Name = core::iter::repeat_n('n', Name::new().capacity()).collect();
        let address = SocketAddr::from((Ipv6Addr::LOCALHOST, u16::MAX));
        config.gateway.listen = core::iter::repeat_n(address, 4).collect();
        config.gateway.media_ports = PortRange { first: u16::MAX, last: u16::MAX };
        config.gateway.advertise = Some(address.ip());
        config.gateway.workers = u8::MAX;
        config.gateway.via = name.clone();
        config.gateway.control = Some(address);
        config.limits = Limits {
            sessions: u16::MAX,
            sessions_per_client: u16::MAX,
            half_open: u16::MAX,
            head_timeout_s: u16::MAX,
            idle_timeout_s: u16::MAX,
            answer_timeout_s: u16::MAX,
            silence_timeout_s: u16::MAX,
            media_queue_kib: u16::MAX,
            media_queue_ms: u16::MAX,
            detached_sessions: true,
        };
        let path: heapless::String<128> = core::iter::repeat_n('/', 128).collect();
        while !config.origins.is_full() {
            let origin = Origin {
                name: name.clone(),
                url: core::iter::repeat_n('u', 256).collect(),
                weight: u8::MAX,
                max_sessions: u16::MAX,
                credentials: Some(name.clone()),
                check: HealthCheck::Describe(path.clone()),
                check_interval_s: u16::MAX,
            };
            config.origins.push(origin).unwrap();
            let route = Route {
                path: path.clone(),
                origins: core::iter::repeat_n(name.clone(), 8).collect(),
                ..Route::default()
            };
            config.routes.push(route).unwrap();
        }
        config
    }

    /// A small generator; the same seed gives the same numbers.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, sides: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap() % sides
        }
        fn number(&mut self, key: &str) -> u16 {
            let range = rules::range(key);
            let span = usize::from(range.end() - range.start()) + 1;
            range.start() + u16::try_from(self.below(span)).unwrap()
        }
        fn word(&mut self, most: usize) -> String {
            let letters = b"abcXYZ019._-";
            (0..1 + self.below(most))
                .map(|_| char::from(letters[self.below(letters.len())]))
                .collect()
        }
        fn pick<T: Copy>(&mut self, words: &[(&str, T)]) -> T {
            words[self.below(words.len())].1
        }
    }

    /// A configuration by chance that keeps the rules.
    pub(crate) fn seeded(seed: u64) -> Box<Config> {
        let mut dice = Dice(seed);
        let mut config = Box::<Config>::default();
        if dice.below(2) == 0 {
            config.gateway.listen.clear();
            for at in 0..1 + dice.below(4) {
                let port = u16::try_from(dice.below(10_000) * 4 + at).unwrap();
                let address = match dice.below(2) {
                    0 => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                    _ => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
                };
                config.gateway.listen.push(address).unwrap();
            }
            let first = u16::try_from(1024 + 2 * dice.below(10_000)).unwrap();
            let last = first + 1 + u16::try_from(2 * dice.below(10_000)).unwrap();
            config.gateway.media_ports = PortRange { first, last };
            config.gateway.advertise = Some(Ipv4Addr::new(192, 0, 2, 1).into());
            config.gateway.workers = u8::try_from(dice.number("workers")).unwrap();
            config.gateway.via = Name::try_from(&*dice.word(32)).unwrap();
            config.gateway.control = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000)));
            config.limits.sessions = dice.number("sessions");
            config.limits.idle_timeout_s = dice.number("idle_timeout_s");
            config.limits.media_queue_kib = dice.number("media_queue_kib");
            config.limits.detached_sessions = dice.below(2) == 0;
        }
        for at in 0..dice.below(33) {
            let path = format!("/{}", dice.word(90));
            let check = match dice.below(3) {
                0 => HealthCheck::Off,
                1 => HealthCheck::Options,
                _ => HealthCheck::Describe(path.as_str().try_into().unwrap()),
            };
            let origin = Origin {
                name: Name::try_from(format!("{at}{}", dice.word(30)).as_str()).unwrap(),
                url: format!("rtsp://{}:{}{path}", dice.word(60), 1 + dice.below(65_535))
                    .as_str()
                    .try_into()
                    .unwrap(),
                weight: u8::try_from(dice.number("weight")).unwrap(),
                max_sessions: dice.number("max_sessions"),
                credentials: (dice.below(2) == 0).then(|| Name::try_from(&*dice.word(32)).unwrap()),
                check,
                check_interval_s: dice.number("check_interval_s"),
            };
            config.origins.push(origin).unwrap();
        }
        let origins = config.origins.len();
        for at in 0..dice.below(33).min(origins * 33) {
            let tail = ["", "/*", "/**", "/*/x", "/é"][dice.below(4)];
            let first = dice.below(origins);
            let some = 1 + dice.below(origins.min(8));
            let route = Route {
                path: format!("/{at}/{}{tail}", dice.word(80)).as_str().try_into().unwrap(),
                origins: (0..some)
                    .map(|n| config.origins[(first + n) % origins].name.clone())
                    .collect(),
                policy: dice.pick(&POLICIES),
                auth: dice.pick(&AUTHS),
                origin_transport: dice.pick(&TRANSPORTS),
                redirect: dice.pick(&REDIRECTS),
                endpoints: dice.pick(&ENDPOINTS),
            };
            config.routes.push(route).unwrap();
        }
        assert_eq!(rules::check(&config), Ok(()), "seed {seed}");
        config
    }

    #[test]
    fn images_read_back_as_the_same_configuration() {
        for seed in 0..200 {
            let config = seeded(seed);
            let (again, sequence) = decode(&encode(&config, seed)).unwrap();
            assert_eq!((again, sequence), (*config, seed));
        }
    }

    #[test]
    fn the_largest_configuration_fills_the_image_exactly() {
        assert_eq!(encode(&largest(), u64::MAX).len(), IMAGE_MAX);
    }

    #[test]
    fn the_stored_image_of_format_1_still_reads() {
        let image = include_bytes!("../../tests/images/config-v1.bin");
        let expected = crate::config::text::parse(crate::config::EXAMPLE).unwrap();
        assert_eq!(decode(image), Ok((expected, 7)));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let config = crate::config::text::parse(crate::config::EXAMPLE).unwrap();
        let image = encode(&config, 9);
        for bit in 0..image.len() * 8 {
            let mut bent = image.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bent), Err(ImageError::Damaged), "bit {bit}");
        }
        for length in 0..image.len() {
            assert!(decode(&image[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_newer_format_is_told_from_a_damaged_one() {
        let mut room = [0; 256];
        let used = seal(FORMAT + 1, 5, &[1u8, 2, 3], &mut room).unwrap();
        assert_eq!(decode(&room[..used]), Err(ImageError::Newer { format: 2, sequence: 5 }));
        assert_eq!(sequence(&room[..used]), Ok(5));
        let used = seal(0, 5, &[1u8, 2, 3], &mut room).unwrap();
        assert_eq!(decode(&room[..used]), Err(ImageError::Malformed));
        // Whole frames with too little, too much, or forbidden content.
        let used = seal(FORMAT, 5, &0u8, &mut room).unwrap();
        assert_eq!(decode(&room[..used]), Err(ImageError::Malformed));
        let used = seal(FORMAT, 5, &(Config::default(), 0u8), &mut room).unwrap();
        assert_eq!(decode(&room[..used]), Err(ImageError::Malformed));
        let mut config = Config::default();
        config.limits.sessions = 0;
        assert!(matches!(decode(&encode(&config, 1)), Err(ImageError::Broken(_))));
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn every_error_reads_well() {
        let errors = [
            ImageError::Short,
            ImageError::Damaged,
            ImageError::Newer { format: 2, sequence: 1 },
            ImageError::Malformed,
        ];
        for error in errors {
            let text = error.to_string();
            assert!(!text.ends_with('.') && text.starts_with(char::is_lowercase), "{text}");
        }
    }
}
