//! The largest configuration in bytes, known at compile time.
//!
//! postcard has these sums for heapless 0.7 only, and neither crate is ours, so the sizes of
//! bounded strings and lists are worked out here and our own types carry them.

use postcard::experimental::max_size::MaxSize;

use super::{Config, Gateway, HealthCheck, Limits, Origin, Plugin, Plugins, PortRange, Route};
use crate::limits::{
    LISTEN_MAX, NAME_MAX_BYTES, ORIGIN_URL_MAX_BYTES, ORIGINS_MAX, PLUGIN_CONFIGS_MAX_BYTES,
    PLUGIN_SLOTS_MAX, ROUTE_FILTERS_MAX, ROUTE_ORIGINS_MAX, ROUTE_PATH_MAX_BYTES, ROUTES_MAX,
    TRUSTED_KEY_BYTES, TRUSTED_KEYS_MAX,
};

/// Bytes of a varint that may be as large as `largest`.
pub(super) const fn varint(largest: usize) -> usize {
    let mut left = largest >> 7;
    let mut bytes = 1;
    while left > 0 {
        bytes += 1;
        left >>= 7;
    }
    bytes
}

/// Bytes of a list of up to `most` elements of `each` bytes; of a string with `each` = 1.
pub(super) const fn list(most: usize, each: usize) -> usize {
    varint(most) + most * each
}

const BYTE: usize = 1;
const U16: usize = varint(u16::MAX as usize);
const NAME: usize = list(NAME_MAX_BYTES, 1);
/// Variant, then address (and port) as postcard lays out `core::net`.
const IP_ADDR: usize = BYTE + 16;
const SOCKET_ADDR: usize = IP_ADDR + U16;
const SLOT: usize = BYTE;

impl MaxSize for Config {
    const POSTCARD_MAX_SIZE: usize = Gateway::POSTCARD_MAX_SIZE
        + Limits::POSTCARD_MAX_SIZE
        + list(ORIGINS_MAX, Origin::POSTCARD_MAX_SIZE)
        + list(ROUTES_MAX, Route::POSTCARD_MAX_SIZE)
        + Plugins::POSTCARD_MAX_SIZE;
}

impl MaxSize for Gateway {
    const POSTCARD_MAX_SIZE: usize = list(LISTEN_MAX, SOCKET_ADDR)
        + PortRange::POSTCARD_MAX_SIZE
        + (BYTE + IP_ADDR)
        + BYTE
        + NAME
        + (BYTE + SOCKET_ADDR)
        + U16
        + (BYTE + SLOT);
}

impl MaxSize for PortRange {
    const POSTCARD_MAX_SIZE: usize = 2 * U16;
}

impl MaxSize for Limits {
    const POSTCARD_MAX_SIZE: usize = 11 * U16 + BYTE;
}

impl MaxSize for Origin {
    const POSTCARD_MAX_SIZE: usize = NAME
        + list(ORIGIN_URL_MAX_BYTES, 1)
        + BYTE
        + U16
        + (BYTE + NAME)
        + HealthCheck::POSTCARD_MAX_SIZE
        + U16;
}

impl MaxSize for HealthCheck {
    const POSTCARD_MAX_SIZE: usize = BYTE + list(ROUTE_PATH_MAX_BYTES, 1);
}

impl MaxSize for Route {
    /// Six choices of one byte each follow the lists, two of them with a slot at most.
    const POSTCARD_MAX_SIZE: usize = list(ROUTE_PATH_MAX_BYTES, 1)
        + list(ROUTE_ORIGINS_MAX, NAME)
        + 6 * BYTE
        + 2 * SLOT
        + list(ROUTE_FILTERS_MAX, SLOT);
}

impl MaxSize for Plugins {
    const POSTCARD_MAX_SIZE: usize = BYTE
        + list(TRUSTED_KEYS_MAX, list(TRUSTED_KEY_BYTES, 1))
        + U16
        + list(PLUGIN_SLOTS_MAX, Plugin::POSTCARD_MAX_SIZE)
        + list(PLUGIN_CONFIGS_MAX_BYTES, 1);
}

impl MaxSize for Plugin {
    const POSTCARD_MAX_SIZE: usize = NAME + BYTE + U16;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::image::tests::largest;

    #[test]
    fn the_largest_configuration_is_as_large_as_was_worked_out() {
        let mut room = vec![0; 2 * Config::POSTCARD_MAX_SIZE];
        let used = postcard::to_slice(&*largest(), &mut room).unwrap().len();
        assert_eq!(used, Config::POSTCARD_MAX_SIZE);
    }
}
