//! What is admitted, before anything of it runs.
//!
//! The signatures were made with an Ed25519 key of the bytes 0 to 31, in the format of minisign.

use super::*;

/// As much of a component as is looked at before it is compiled.
const WASM: &[u8] = b"\0asm\x0d\0\x01\0";
const KEY: &str = "RWRlZGdld2VpcgOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
const OTHER_KEY: &str = "RWRlZGdld2Vpcnm1Vi6P5lT5QHixEuipi6eQH4U65pW+1+DjkQutBJZk";
const SIGNED_7: &str = "untrusted comment: test\nRURlZGdld2VpcmFl9woZdWwA2Fioymq7NAGZvSaPzTPsmsGT/HFDuGAKe5sLhhBN+uiQy9vyqwkcWOZcRMPX4gHKb/wmnVD06gA=\ntrusted comment: serial:7 test\nZuWArzoH9+y8C1crDCa1R2/XQmbor/OcCnwu+z+7ngndyOLjT+r2g3PO0VNZZD37fTmHTdARNqyhdGEsnHFkDA==\n";
const SIGNED: &str = "untrusted comment: test\nRURlZGdld2VpcmFl9woZdWwA2Fioymq7NAGZvSaPzTPsmsGT/HFDuGAKe5sLhhBN+uiQy9vyqwkcWOZcRMPX4gHKb/wmnVD06gA=\ntrusted comment: no number\nf4Y+2nosH0rYlcTXy+3p5T17+fPiOofkrB3vxLyhDt3XpHbBE2UbAYFV0u0IV81s75QAcyW/l6kcEgNBthz7Aw==\n";

fn upload(signature: Option<&str>, serial: Option<u64>) -> Upload<'_> {
    Upload { wasm: WASM, signature, serial, force: false, config: "{}" }
}

fn rules(require_signature: bool, keys: &[&str]) -> Rules {
    let trusted_keys = keys.iter().map(|key| (*key).to_owned()).collect();
    Rules { require_signature, trusted_keys, ..Rules::default() }
}

fn empty_slot() -> Stored {
    Stored::new("s".try_into().unwrap())
}

fn step(rules: &Rules, old: &Stored, upload: &Upload<'_>) -> Result<u64, &'static str> {
    admit(rules, old, upload).map(|version| version.serial).map_err(|refusal| refusal.step)
}

#[test]
fn a_signature_counts_by_a_trusted_key_over_these_very_bytes() {
    let slot = empty_slot();
    let signed = upload(Some(SIGNED), None);
    assert_eq!(step(&rules(true, &[OTHER_KEY, KEY]), &slot, &signed), Ok(0));
    assert_eq!(step(&rules(true, &[OTHER_KEY]), &slot, &signed), Err("signature"));
    assert_eq!(step(&rules(true, &[]), &slot, &signed), Err("signature"));
    assert_eq!(step(&rules(true, &["nonsense"]), &slot, &signed), Err("signature"));
    // A bad signature is refused even where none is needed.
    assert_eq!(step(&rules(false, &[]), &slot, &signed), Err("signature"));
    assert_eq!(step(&rules(false, &[]), &slot, &upload(None, None)), Ok(0));
    assert_eq!(step(&rules(true, &[KEY]), &slot, &upload(None, None)), Err("signature"));
    assert_eq!(step(&rules(true, &[KEY]), &slot, &upload(Some("text"), None)), Err("signature"));
    let other = Upload { wasm: b"\0asm\x0d\0\x01\0x", ..signed };
    assert_eq!(step(&rules(true, &[KEY]), &slot, &other), Err("signature"));
    let comment = SIGNED_7.replace("serial:7", "serial:9");
    assert_eq!(step(&rules(true, &[KEY]), &slot, &upload(Some(&comment), None)), Err("signature"));
}

#[test]
fn the_serial_is_the_signed_one_and_never_goes_back_by_itself() {
    let rules = rules(false, &[KEY]);
    let slot = Stored { serial: 7, ..empty_slot() };
    assert_eq!(step(&rules, &slot, &upload(Some(SIGNED_7), None)), Ok(7));
    assert_eq!(step(&rules, &slot, &upload(Some(SIGNED_7), Some(7))), Ok(7));
    assert_eq!(step(&rules, &slot, &upload(Some(SIGNED_7), Some(8))), Err("serial"));
    assert_eq!(step(&rules, &slot, &upload(None, Some(8))), Ok(8));
    assert_eq!(step(&rules, &slot, &upload(None, Some(6))), Err("serial"));
    assert_eq!(step(&rules, &slot, &upload(None, None)), Err("serial"));
    let forced = Upload { force: true, ..upload(None, Some(6)) };
    assert_eq!(step(&rules, &slot, &forced), Ok(6));
}

#[test]
fn what_was_banned_comes_back_by_force_only() {
    let rules = rules(false, &[]);
    let slot = Stored { banned: Some(hash(WASM)), ..empty_slot() };
    assert_eq!(step(&rules, &slot, &upload(None, None)), Err("ban"));
    assert_eq!(step(&rules, &slot, &Upload { force: true, ..upload(None, None) }), Ok(0));
}

#[test]
fn sizes_are_taken_at_their_bound_and_refused_past_it() {
    let slot = empty_slot();
    for (max_kib, bytes, taken) in [
        (256, 256 * 1024, true),
        (256, 256 * 1024 + 1, false),
        (1024, 1024 * 1024, true),
        (u16::MAX, 1024 * 1024 + 1, false),
    ] {
        let mut wasm = WASM.to_vec();
        wasm.resize(bytes, 0);
        let rules = Rules { max_kib, ..Rules::default() };
        let found = step(&rules, &slot, &Upload { wasm: &wasm, ..upload(None, None) });
        assert_eq!(found, if taken { Ok(0) } else { Err("size") });
    }
    for (bytes, taken) in [(PLUGIN_CONFIG_MAX_BYTES, true), (PLUGIN_CONFIG_MAX_BYTES + 1, false)] {
        let config = format!("\"{}\"", "x".repeat(bytes - 2));
        let upload = Upload { config: &config, ..upload(None, None) };
        let found = step(&Rules::default(), &slot, &upload);
        assert_eq!(found, if taken { Ok(0) } else { Err("config") });
    }
}

#[test]
fn a_trial_that_is_late_once_is_made_again_and_only_then_refused() {
    let refusal = |step| Refusal::new(step, "so it is", "do better");
    for (outcomes, trials, passes) in [
        (&[None][..], 1, true),
        (&[Some((true, "late")), None], 2, true),
        (&[Some((true, "late")), Some((true, "late"))], 2, false),
        (&[Some((true, "late")), Some((false, "wrong"))], 2, false),
        (&[Some((false, "wrong"))], 1, false),
    ] {
        let mut made = 0;
        let result = twice_if_late(|| {
            let outcome = outcomes[made];
            made += 1;
            outcome.map_or(Ok(()), |(late, step)| Err((late, refusal(step))))
        });
        assert_eq!((made, result.is_ok()), (trials, passes));
    }
}
