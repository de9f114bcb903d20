//! What players may ask for on a route where the gateway signs toward the origin.
//!
//! A camera takes a signed request as one of its administrator: who may watch may not therefore
//! publish to it or change its settings.

use serde::{Deserialize, Serialize};

/// One group of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodGroup {
    /// OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER.
    Play,
    /// ANNOUNCE, RECORD.
    Publish,
    /// SET_PARAMETER.
    Parameters,
    /// Methods that the gateway does not know.
    Other,
}

impl MethodGroup {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Play, Self::Publish, Self::Parameters, Self::Other];

    const fn bit(self) -> u8 {
        match self {
            Self::Play => 1,
            Self::Publish => 2,
            Self::Parameters => 4,
            Self::Other => 8,
        }
    }
}

/// A set of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Methods(u8);

impl Default for Methods {
    /// Watching alone.
    fn default() -> Self {
        Self(MethodGroup::Play.bit())
    }
}

impl Methods {
    /// Every group.
    pub const ALL: Self = Self(15);

    /// Whether a group is in it.
    pub const fn has(self, group: MethodGroup) -> bool {
        self.0 & group.bit() != 0
    }

    /// The groups in it.
    pub fn groups(self) -> impl Iterator<Item = MethodGroup> {
        MethodGroup::ALL.into_iter().filter(move |group| self.has(*group))
    }

    /// Whether it names something, and only groups that there are.
    pub(super) const fn is_known(self) -> bool {
        self.0 != 0 && self.0 & !Self::ALL.0 == 0
    }
}

impl FromIterator<MethodGroup> for Methods {
    fn from_iter<I: IntoIterator<Item = MethodGroup>>(groups: I) -> Self {
        Self(groups.into_iter().fold(0, |set, group| set | group.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        assert!(Methods::default().groups().eq([MethodGroup::Play]));
        assert!(Methods::ALL.groups().eq(MethodGroup::ALL));
        for group in MethodGroup::ALL {
            let set: Methods = [group].into_iter().collect();
            assert!(set.groups().eq([group]) && set.is_known());
        }
        assert!(!Methods(0).is_known() && !Methods(16).is_known());
    }
}
