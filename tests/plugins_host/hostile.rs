//! Guests that mean harm, or are broken.

use super::support::*;

#[test]
fn nothing_is_the_control() {
    let place = Place::new();
    let report = place.install_misbehaving("b", &does("nothing", "all", 1)).unwrap();
    eprintln!("{report:#?}");
    let mut hooks = place.host.guests();
    assert_eq!(pick(&mut hooks, "b"), None);
    let info = place.info("b");
    eprintln!("{info:#?}");
}
