//! An origin chosen by somebody else: a plugin, or a test in its place.
//!
//! What is chosen is taken only if it stands in the list, is well and has room. Not in here: who is
//! asked, and what happens when the choice cannot be had ([`Table::pick`] does that).

use super::{Purpose, Reservation, Table, may_serve, reserve};
use crate::{clock::Instant, limits::ROUTE_ORIGINS_MAX, plugin::hooks::Upstream};

/// What came of asking.
#[derive(Debug)]
pub enum Consulted {
    /// This origin, and its place is reserved.
    Chosen(Reservation),
    /// No opinion, or its last place was taken in between.
    None,
    /// An origin that is not in the list, or may not be chosen.
    Bad(u32),
}

impl Table {
    /// Asks for an origin of route number `route` that is not in `exclude`, with a place where one is
    /// needed. `had` is the
    /// [`super::Origin::id`] of the origin that the client had before; `ask` gets it as an
    /// [`Upstream::id`], if it is in the list.
    pub fn consult(
        &self,
        route: usize,
        exclude: &[usize],
        (now, purpose): (Instant, Purpose),
        had: Option<u64>,
        ask: impl FnOnce(&[Upstream], Option<u32>) -> Option<u32>,
    ) -> Consulted {
        let origins = self.routes.get(route).map_or(&[][..], |route| &route.origins);
        let mut upstreams: heapless::Vec<Upstream, ROUTE_ORIGINS_MAX> = heapless::Vec::new();
        let mut sticky = None;
        for (index, id) in origins.iter().zip(0_u32..) {
            let Some(origin) = self.origins.get(*index).filter(|_| !exclude.contains(index)) else {
                continue;
            };
            if had == Some(origin.id()) {
                sticky = Some(id);
            }
            let candidate = origin.candidate(may_serve(origin, now, false, origins.len() == 1));
            // A route has at most as many origins as fit.
            let _ = upstreams.push(Upstream {
                id,
                weight: candidate.weight.into(),
                healthy: candidate.is_eligible(),
                draining: false,
                sessions: candidate.sessions,
                max_sessions: candidate.max_sessions,
                rtt_us: origin.rtt_us(),
                err_permille: origin.err_permille(),
                out_kbit: candidate.kbit,
            });
        }
        let Some(chosen) = ask(&upstreams, sticky) else { return Consulted::None };
        let known = upstreams.iter().any(|upstream| upstream.id == chosen && upstream.healthy);
        let index = usize::try_from(chosen).ok().filter(|_| known).and_then(|id| origins.get(id));
        let origin = index.and_then(|index| Some((*index, self.origins.get(*index)?)));
        let Some((index, origin)) = origin else { return Consulted::Bad(chosen) };
        reserve(index, origin, now, purpose, origins.len() == 1)
            .map_or(Consulted::None, Consulted::Chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::text, origin::Outcome};

    const NOW: Instant = Instant::from_millis(10);

    fn table() -> Table {
        let origin = |name: &str, more: &str| {
            format!("[[origin]]\nname = \"{name}\"\nurl = \"rtsp://192.0.2.1\"\n{more}\n")
        };
        let text = [
            origin("other", ""),
            origin("a", "weight = 7"),
            origin("b", "max_sessions = 1"),
            origin("c", ""),
            "[[plugin]]\nslot = \"p\"\n[[route]]\npath = \"/**\"\npolicy = \"plugin:p\"\n".into(),
            "origins = [\"a\", \"b\", \"c\"]\n".into(),
        ];
        Table::new(&text::parse(&text.concat()).unwrap(), None, 1)
    }

    fn choose(table: &Table, exclude: &[usize], id: u32) -> Consulted {
        table.consult(0, exclude, (NOW, Purpose::Session), None, |_, _| Some(id))
    }

    #[test]
    fn ids_are_places_in_the_routes_list_whatever_is_left_out() {
        let table = table();
        let seen = |exclude: &[usize], had: Option<&str>| {
            let had = had.map(|name| table.named(name).unwrap().id());
            let mut seen = None;
            let _ = table.consult(0, exclude, (NOW, Purpose::Asks), had, |upstreams, sticky| {
                seen = Some((upstreams.iter().map(|one| one.id).collect::<Vec<_>>(), sticky));
                None
            });
            seen.unwrap()
        };
        assert_eq!(seen(&[], None), (vec![0, 1, 2], None));
        assert_eq!(seen(&[1], Some("c")), (vec![1, 2], Some(2)));
        assert_eq!(seen(&[3], Some("c")), (vec![0, 1], None), "what was tried is no old friend");
        assert_eq!(seen(&[], Some("other")), (vec![0, 1, 2], None));
    }

    #[test]
    fn a_choice_is_reserved_until_it_is_dropped() {
        let table = table();
        let Consulted::Chosen(held) = choose(&table, &[], 1) else { panic!("b has room") };
        assert_eq!((held.name(), held.sessions(), held.index()), ("b", 1, 2));
        assert!(matches!(choose(&table, &[], 1), Consulted::Bad(1)), "b is full");
        drop(held);
        assert!(matches!(choose(&table, &[], 1), Consulted::Chosen(_)));
    }

    #[test]
    fn what_is_not_in_the_list_or_not_well_is_not_taken() {
        let table = table();
        assert!(matches!(choose(&table, &[], 3), Consulted::Bad(3)));
        assert!(matches!(choose(&table, &[], u32::MAX), Consulted::Bad(u32::MAX)));
        assert!(matches!(choose(&table, &[1], 0), Consulted::Bad(0)), "it was tried before");
        table.named("a").unwrap().observe(Outcome::ConnectFailed, NOW);
        assert!(matches!(choose(&table, &[], 0), Consulted::Bad(0)), "it is down");
        let when = (NOW, Purpose::Asks);
        assert!(matches!(table.consult(9, &[], when, None, |_, _| Some(0)), Consulted::Bad(0)));
    }
}
