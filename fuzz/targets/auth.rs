//! Challenges and Authorization on both sides: nobody gets in but with the password, and what the
//! gateway signs itself would be taken.
#![no_main]

use core::net::IpAddr;
use std::sync::LazyLock;

use edgeweir::{
    auth::{Account, Credentials, Decision, Signer, Verifier, digest},
    clock::Instant,
    config::Auth,
};
use edgeweir_fuzz::{input::Choices, seeds};
use libfuzzer_sys::fuzz_target;

const URI: &[u8] = b"rtsp://192.0.2.1:8554/cam1";

static VERIFIER: LazyLock<Verifier> =
    LazyLock::new(|| Verifier::new(vec![Account::new("viewer", "secret")], [7; 32]));

fuzz_target!(init: seeds::write(headers()), |data: &[u8]| {
    let mut choices = Choices(data);
    let scheme = [Auth::Basic, Auth::Digest][choices.below(2)];
    let value = choices.0;
    let client: IpAddr = "192.0.2.7".parse().unwrap();
    let now = Instant::from_millis(1_000);
    check(VERIFIER.check(scheme, b"DESCRIBE", URI, Some(value), now, client), value);
    if let Some(parsed) = digest::parse(value) {
        for challenge in &parsed {
            let _ = (challenge.param("nonce"), challenge.is("digest"));
        }
    }
    let mut signer = Signer::new(Credentials::new("viewer", "secret"), 3);
    let values: Vec<&[u8]> = value.split(|byte| *byte == b'\n').collect();
    for _ in 0..6 {
        if !signer.challenge(&values) {
            break;
        }
        let signed = signer.authorization(b"DESCRIBE", URI).expect("a challenge was taken");
        assert!(!signed.contains(['\r', '\n', '\0']), "{signed:?}");
        assert!(!signed.contains("secret"), "the password stays here");
    }
});

fn check(decision: Decision, value: &[u8]) {
    match decision {
        Decision::Granted { user } => {
            // The fuzzer knows the one password by the seeds of the transcripts, in Basic.
            assert_eq!(user, "viewer");
            let text = String::from_utf8_lossy(value).to_lowercase();
            assert!(text.contains("basic"), "{text:?} opened the door");
        }
        Decision::Challenge(values) | Decision::Wrong { challenge: values, .. } => {
            // The gateway's own challenge can be answered by the gateway itself.
            let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
            let mut signer = Signer::new(Credentials::new("viewer", "secret"), 3);
            assert!(signer.challenge(&values));
        }
        Decision::Refused => {}
    }
}

/// Both kinds of headers, behind both choices.
fn headers() -> Vec<Vec<u8>> {
    let names = ["Authorization:", "WWW-Authenticate:", "Proxy-Authenticate:"];
    let values = names.iter().flat_map(|name| seeds::values(name));
    values.flat_map(|value| [0, 1].map(|scheme| [&[scheme], &value[..]].concat())).collect()
}
