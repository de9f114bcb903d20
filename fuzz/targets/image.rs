//! Images of a configuration and of secrets, their checksum made right: what is taken keeps the
//! rules, and can be exported and imported again.
#![no_main]

use edgeweir::config::{image, print, secrets, text};
use edgeweir_fuzz::seeds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds::write(images()), |data: &[u8]| {
    let crc = crc32(data).to_le_bytes();
    let stored = [data, &crc[..]].concat();
    let _ = image::sequence(&stored);
    if let Ok((config, sequence)) = image::decode(&stored) {
        let printed = print::print(&config);
        assert_eq!(text::parse(&printed).as_ref(), Ok(&config), "{printed}");
        let again = image::encode(&config, sequence);
        assert_eq!(image::decode(&again), Ok((config, sequence)));
    }
    if let Ok((secrets, sequence)) = secrets::decode(&stored) {
        let again = secrets::encode(&secrets, sequence);
        assert!(matches!(secrets::decode(&again), Ok((_, same)) if same == sequence));
    }
});

/// The stored image of each format without its checksum, and one of each kind made now.
fn images() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for format in 1..9 {
        all.push(seeds::file(&format!("tests/images/config-v{format}.bin")));
        all.push(seeds::file(&format!("tests/images/secrets-v{format}.bin")));
    }
    let example = String::from_utf8(seeds::file("src/config/example.toml")).unwrap();
    all.push(image::encode(&text::parse(&example).unwrap(), 3).to_vec());
    let mut some = secrets::Secrets::default();
    some.set_user("viewer", "a long password").unwrap();
    some.set_credential("nvr", "admin", "12345").unwrap();
    all.push(secrets::encode(&some, 3).to_vec());
    all.retain(|image| image.len() > 4);
    all.into_iter().map(|image| image[..image.len() - 4].to_vec()).collect()
}

/// CRC-32 as in zip, so that what is mutated gets past the checksum.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}
