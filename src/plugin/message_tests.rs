//! Getters and staged edits, by hand.

use super::*;
