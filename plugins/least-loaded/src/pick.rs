//! Which upstream, which worker.

use edgeweir_kit::Config;

/// Busier than the session's own worker by at least this much is worth a hand-over, per mille.
const HAND_OVER_PERMILLE: u16 = 100;

/// What load is counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Sessions.
    #[default]
    Sessions,
    /// Media, kbit/s; sessions where that is equal.
    Traffic,
}

/// The configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `by`.
    pub by: By,
    /// `sticky`: a client stays with its upstream while that may take it.
    pub sticky: bool,
    /// `max_err_permille`: above, an upstream is chosen only if no other is left.
    pub max_err_permille: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self { by: By::Sessions, sticky: true, max_err_permille: 500 }
    }
}

impl Settings {
    /// Reads the plugin's configuration.
    ///
    /// # Errors
    /// The key, what is wrong with it and what is allowed.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut config = Config::parse(text)?;
        let default = Self::default();
        let by = match config.string("by", 16)?.as_deref() {
            None | Some("sessions") => By::Sessions,
            Some("traffic") => By::Traffic,
            Some(other) => return Err(format!("by = \"{other}\": sessions or traffic is allowed")),
        };
        let sticky = config.boolean("sticky")?.unwrap_or(default.sticky);
        let max_err_permille = config
            .integer("max_err_permille", 0..=1000)?
            .and_then(|found| u16::try_from(found).ok())
            .unwrap_or(default.max_err_permille);
        config.finish()?;
        Ok(Self { by, sticky, max_err_permille })
    }
}

/// An upstream, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// As the host numbers it.
    pub id: u32,
    /// Share of sessions; 0 counts as 1.
    pub weight: u16,
    /// Whether it takes new sessions.
    pub healthy: bool,
    /// Sessions now.
    pub sessions: u32,
    /// Its bound; 0: none.
    pub max_sessions: u32,
    /// Failures among the last answers.
    pub err_permille: u16,
    /// Media from it, kbit/s.
    pub out_kbit: u32,
}

impl Candidate {
    fn has_room(&self) -> bool {
        self.healthy && (self.max_sessions == 0 || self.sessions < self.max_sessions)
    }

    /// Lower is better. The session to come is counted, so that an idle upstream of weight 2 comes
    /// before an idle one of weight 1.
    fn load(&self, settings: Settings) -> (bool, u64, u64) {
        let weight = u64::from(self.weight.max(1));
        // 6,300,000 / weight: whole for most weights, and far from the end of 64 bits.
        let share = |amount: u32| (u64::from(amount) + 1) * (6_300_000 / weight);
        let failing = self.err_permille > settings.max_err_permille;
        match settings.by {
            By::Sessions => (failing, share(self.sessions), share(self.out_kbit)),
            By::Traffic => (failing, share(self.out_kbit), share(self.sessions)),
        }
    }
}

/// The upstream for a session; none if none has room.
pub fn upstream(
    settings: Settings,
    sticky: Option<u32>,
    candidates: impl Iterator<Item = Candidate> + Clone,
) -> Option<u32> {
    let with_room = candidates.filter(Candidate::has_room);
    if settings.sticky
        && let Some(wanted) = sticky
    {
        let stays =
            |at: &Candidate| at.id == wanted && at.err_permille <= settings.max_err_permille;
        if with_room.clone().any(|at| stays(&at)) {
            return Some(wanted);
        }
    }
    with_room.min_by_key(|at| at.load(settings)).map(|at| at.id)
}

/// The worker for a track, from (number, busy per mille, whether the session lives there).
pub fn worker(workers: impl Iterator<Item = (u16, u16, bool)>) -> Option<u16> {
    workers
        .min_by_key(|(_, busy, own)| busy.saturating_add(if *own { 0 } else { HAND_OVER_PERMILLE }))
        .map(|(id, _, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Candidate = Candidate {
        id: 0,
        weight: 1,
        healthy: true,
        sessions: 0,
        max_sessions: 0,
        err_permille: 0,
        out_kbit: 0,
    };

    fn pick(settings: Settings, sticky: Option<u32>, candidates: &[Candidate]) -> Option<u32> {
        upstream(settings, sticky, candidates.iter().copied())
    }

    #[test]
    fn fewest_sessions_for_its_weight_wins() {
        let light = Candidate { id: 0, weight: 1, sessions: 4, ..IDLE };
        let heavy = Candidate { id: 1, weight: 3, sessions: 9, ..IDLE };
        assert_eq!(pick(Settings::default(), None, &[light, heavy]), Some(1));
        let heavier = Candidate { sessions: 15, ..heavy };
        assert_eq!(pick(Settings::default(), None, &[light, heavier]), Some(0));
    }

    #[test]
    fn sessions_end_up_in_proportion_to_weights() {
        let mut all =
            [1_u16, 2, 5].map(|weight| Candidate { id: u32::from(weight), weight, ..IDLE });
        for _ in 0..800 {
            let chosen = pick(Settings::default(), None, &all).unwrap();
            all.iter_mut().find(|at| at.id == chosen).unwrap().sessions += 1;
        }
        assert_eq!(all.map(|at| at.sessions), [100, 200, 500]);
    }

    #[test]
    fn traffic_counts_when_asked_for() {
        let few_but_fat = Candidate { id: 0, sessions: 1, out_kbit: 8000, ..IDLE };
        let many_but_thin = Candidate { id: 1, sessions: 5, out_kbit: 500, ..IDLE };
        let both = [few_but_fat, many_but_thin];
        assert_eq!(pick(Settings::default(), None, &both), Some(0));
        let by_traffic = Settings { by: By::Traffic, ..Settings::default() };
        assert_eq!(pick(by_traffic, None, &both), Some(1));
    }

    #[test]
    fn full_sick_and_draining_upstreams_are_left_out() {
        let full = Candidate { id: 0, sessions: 3, max_sessions: 3, ..IDLE };
        let sick = Candidate { id: 1, healthy: false, ..IDLE };
        let last = Candidate { id: 2, sessions: 2, max_sessions: 3, ..IDLE };
        assert_eq!(pick(Settings::default(), None, &[full, sick, last]), Some(2));
        assert_eq!(pick(Settings::default(), None, &[full, sick]), None);
        assert_eq!(pick(Settings::default(), None, &[]), None);
    }

    #[test]
    fn an_upstream_that_fails_often_comes_last() {
        let failing = Candidate { id: 0, err_permille: 501, ..IDLE };
        let busy = Candidate { id: 1, sessions: 50, err_permille: 500, ..IDLE };
        assert_eq!(pick(Settings::default(), None, &[failing, busy]), Some(1));
        assert_eq!(pick(Settings::default(), None, &[failing]), Some(0));
    }

    #[test]
    fn a_client_stays_where_it_was_while_there_is_room() {
        let idle = Candidate { id: 0, ..IDLE };
        let busy = Candidate { id: 1, sessions: 7, max_sessions: 8, ..IDLE };
        assert_eq!(pick(Settings::default(), Some(1), &[idle, busy]), Some(1));
        let full = Candidate { sessions: 8, ..busy };
        assert_eq!(pick(Settings::default(), Some(1), &[idle, full]), Some(0));
        let never = Settings { sticky: false, ..Settings::default() };
        assert_eq!(pick(never, Some(1), &[idle, busy]), Some(0));
        assert_eq!(pick(Settings::default(), Some(9), &[idle, busy]), Some(0));
    }

    #[test]
    fn extreme_numbers_do_not_overflow() {
        let extreme =
            Candidate { id: 0, weight: 0, sessions: u32::MAX, out_kbit: u32::MAX, ..IDLE };
        assert_eq!(pick(Settings::default(), None, &[extreme]), Some(0));
        let same = Candidate { weight: u16::MAX, ..extreme };
        assert_eq!(pick(Settings::default(), None, &[same]), Some(0));
    }

    #[test]
    fn a_track_leaves_its_worker_only_for_a_much_idler_one() {
        assert_eq!(worker([(0, 300, false), (1, 399, true)].into_iter()), Some(1));
        assert_eq!(worker([(0, 300, false), (1, 401, true)].into_iter()), Some(0));
        assert_eq!(worker([].into_iter()), None);
    }

    #[test]
    fn configurations() {
        assert_eq!(Settings::parse(b"{}"), Ok(Settings::default()));
        assert_eq!(
            Settings::parse(br#"{"by":"traffic","sticky":false,"max_err_permille":1000}"#),
            Ok(Settings { by: By::Traffic, sticky: false, max_err_permille: 1000 })
        );
        for (text, error) in [
            (r#"{"by":"luck"}"#, "by = \"luck\": sessions or traffic is allowed"),
            (r#"{"sticky":1}"#, "sticky is a number: true or false is expected"),
            (r#"{"max_err_permille":1001}"#, "max_err_permille = 1001: 0 to 1000 is allowed"),
            (r#"{"bye":1}"#, "unknown key \"bye\": known are by, sticky, max_err_permille"),
        ] {
            assert_eq!(Settings::parse(text.as_bytes()), Err(error.to_owned()));
        }
    }
}
