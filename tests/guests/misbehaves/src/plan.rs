//! What to do, where, and from which call on.

use edgeweir_kit::Config;

/// The functions of the guest in which it may misbehave.
pub(crate) const PLACES: [&str; 8] = [
    "init",
    "interests",
    "snapshot",
    "probe",
    "pick-upstream",
    "pick-worker",
    "authenticate",
    "on-message",
];

/// The configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    deed: String,
    place: Option<usize>,
    from_call: u32,
    calls: [u32; PLACES.len()],
}

impl Plan {
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let mut config = Config::parse(text)?;
        let deed = config.string("do", 32)?.unwrap_or_else(|| "nothing".to_owned());
        let place = match config.string("in", 32)?.as_deref() {
            None | Some("all") => None,
            Some(name) => match PLACES.iter().position(|place| *place == name) {
                Some(place) => Some(place),
                None => return Err(format!("in = {name:?}: no such function")),
            },
        };
        let from_call = config.integer("from_call", 1..=u32::MAX)?.unwrap_or(1);
        config.finish()?;
        Ok(Self { deed, place, from_call, calls: [0; PLACES.len()] })
    }

    /// Counts a call of this function; what to do in it.
    pub(crate) fn deed(&mut self, name: &str) -> String {
        let Some(place) = PLACES.iter().position(|place| *place == name) else {
            return String::new();
        };
        if let Some(calls) = self.calls.get_mut(place) {
            *calls += 1;
        }
        let here = match self.place {
            None => name != "init",
            Some(wanted) => wanted == place,
        };
        let now = self.calls.get(place).is_some_and(|calls| *calls >= self.from_call);
        if here && now { self.deed.clone() } else { String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_misbehaves_in_its_place_and_from_its_call_on() {
        let text = br#"{"do":"trap","in":"pick-upstream","from_call":3}"#;
        let mut plan = Plan::parse(text).unwrap();
        assert_eq!(plan.deed("pick-upstream"), "");
        assert_eq!(plan.deed("pick-upstream"), "");
        assert_eq!(plan.deed("authenticate"), "");
        assert_eq!(plan.deed("pick-upstream"), "trap");
        assert_eq!(plan.deed("pick-upstream"), "trap");
        let mut everywhere = Plan::parse(br#"{"do":"loop"}"#).unwrap();
        assert_eq!(everywhere.deed("init"), "");
        assert_eq!(everywhere.deed("probe"), "loop");
        assert!(Plan::parse(br#"{"in":"nowhere"}"#).is_err());
    }
}
