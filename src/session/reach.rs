//! What a connection may reach: each request's URL is judged, and the session bound to what it names.
//!
//! Judging is [`scope::permits`]'s; here is what a session adds. While tracks are set up, or are being
//! set up, the connection is of one presentation: another one is refused, whoever asks. Without any,
//! the session follows the client to what it asks for, so that `sessions`, the log and `hash-path` show
//! the path in question.

use std::sync::Arc;

use super::{
    Fault, Link, Output, Session,
    mapping::{Mapping, Scope},
};
use crate::{
    clock::Instant,
    config::Policy,
    limits::URL_MAX_BYTES,
    origin::{Route, Table},
    rtsp::{
        Head, Method,
        url::{Base, Url, same_path},
    },
    scope::{self, Asked, Grants, Place, Presentation, Refused, UnderWay, Verdict},
};

/// Grants of the connection, and what the session is bound to.
#[derive(Debug, Default)]
pub(super) struct Reach {
    grants: Grants,
    /// Waits for the client to say who it is.
    wanted: Option<Place>,
    /// Route of the request that was permitted last, in the newest table.
    permitted: Option<usize>,
    bound: Option<Bound>,
}

#[derive(Debug)]
struct Bound {
    presentation: Presentation,
    /// Index of its route in the newest table; none where it has changed.
    route: Option<usize>,
    /// By a SETUP: the presentation that its URL is a part of is not known for sure.
    by_track: bool,
    /// The session was taken up from a new connection, and nobody has said yet who that is.
    taken_up: bool,
}

impl Bound {
    /// Whether a URL may be a part of the session that is under way.
    fn fits(&self, asked: &Presentation, route: usize, method: Method, signed: bool) -> bool {
        let within = self.presentation.has(asked.path());
        let beside = self.by_track
            && (self.presentation.lies_below(asked.path())
                || self.presentation.is_beside(asked.path()));
        match self.route {
            // What a client signs leads where its origin said.
            Some(bound) => bound == route && (within || beside || signed),
            // Of a route that changed: what there is goes on, nothing is added.
            None => within && !matches!(method, Method::Setup | Method::Announce | Method::Record),
        }
    }
}

/// How a request goes on.
pub(super) enum Judged {
    /// Nobody has to be asked.
    Permitted,
    /// The client has to say who it is.
    Asks,
    /// The gateway answers.
    Gateway,
}

impl Session {
    /// Judges a request of the client, which is taken further if it may be.
    pub(super) fn judge(
        &mut self,
        head: &Head<'_>,
        has_body: bool,
        now: Instant,
    ) -> Result<Judged, Fault> {
        let uri = head.uri().unwrap_or_default();
        if uri.len() > URL_MAX_BYTES {
            return Err(Fault::TooLarge(414));
        }
        let url = Url::parse(uri).map_err(|_| Fault::Malformed)?;
        match self.verdict(head.method(), &url, has_body, now) {
            Verdict::Gateway => Ok(Judged::Gateway),
            Verdict::Drains => Ok(Judged::Permitted),
            Verdict::Permitted(place) => {
                self.enter(head.method(), uri, &url, place).map(|()| Judged::Permitted)
            }
            Verdict::Needs(place) => {
                self.reach.wanted = Some(place);
                Ok(Judged::Asks)
            }
            Verdict::Refused(refused) => Err(match refused {
                Refused::Ambiguous => Fault::AmbiguousPath,
                Refused::NoRoute => Fault::NoRoute,
                Refused::NoAlias => Fault::NoAlias,
                Refused::Method(methods) => Fault::MethodOfRoute(methods),
            }),
        }
    }

    fn verdict(&self, method: Method, url: &Url<'_>, has_body: bool, now: Instant) -> Verdict {
        let under_way =
            self.reach.bound.as_ref().filter(|bound| {
                !bound.taken_up && (!self.tracks.is_empty() || self.is_setting_up())
            });
        let under_way = under_way.map(|bound| UnderWay {
            presentation: &bound.presentation,
            route_holds: bound.route.is_some(),
        });
        let asked = Asked { method, url, has_body };
        let Self { around, reach, .. } = self;
        scope::permits(self.newest(), &around.aliases, &reach.grants, under_way, asked, now)
    }

    /// The client said who it is: what it asked for is its own, until then.
    pub(super) fn granted(&mut self, user: String, until: Option<Instant>, now: Instant) {
        let Some(place) = self.reach.wanted.take() else {
            return self.refuse_decided(Fault::NoRoute); // it was removed meanwhile
        };
        if until.is_none_or(|until| now < until) {
            self.reach.grants.give(place.clone(), user, until);
        }
        let Some(deciding) = &self.deciding else { return };
        let raw = deciding.raw.clone();
        let Ok(head) = Head::parse(raw.get(..deciding.head).unwrap_or_default()) else { return };
        let uri = head.uri().unwrap_or_default();
        let Ok(url) = Url::parse(uri) else { return };
        match self.enter(head.method(), uri, &url, place) {
            Ok(()) => self.permitted(now),
            Err(fault) => self.refuse_decided(fault),
        }
    }

    /// A filter edited the request. It speaks for the operator, and may lead anywhere that the route
    /// of the request leads to, but not out of it.
    pub(super) fn is_within_route(&self, head: &Head<'_>, now: Instant) -> bool {
        let Ok(url) = Url::parse(head.uri().unwrap_or_default()) else { return false };
        match self.verdict(head.method(), &url, false, now) {
            Verdict::Permitted(place) | Verdict::Needs(place) => {
                Some(place.route) == self.reach.permitted
            }
            Verdict::Drains => true,
            Verdict::Gateway | Verdict::Refused(_) => false,
        }
    }

    /// The scheme by which the client has to say who it is, for the request that waits.
    pub(super) fn asks_by(&self) -> Option<crate::config::Auth> {
        let place = self.reach.wanted.as_ref()?;
        Some(self.newest().routes().get(place.route)?.auth)
    }

    /// The table and route by which the request in [`Session::deciding`] is judged: the newest while
    /// its client is asked for credentials.
    pub fn judged_by(&self) -> (&Arc<Table>, Option<usize>) {
        match &self.reach.wanted {
            Some(place) => (self.newest(), Some(place.route)),
            None => (&self.table, self.route),
        }
    }

    pub(super) fn newest(&self) -> &Arc<Table> {
        self.next_table.as_ref().unwrap_or(&self.table)
    }

    fn is_setting_up(&self) -> bool {
        self.requests.open().any(|(_, pending)| pending.note.setup.is_some())
    }

    /// The origin has not taken all that it is to be told: a TEARDOWN among it would be lost with the
    /// connection.
    fn has_farewell_to_say(&self) -> bool {
        !self.own.is_empty() && !self.to_origin.is_empty()
    }

    /// Binds the session to what a permitted request names, where it is not.
    fn enter(
        &mut self,
        method: Method,
        uri: &[u8],
        url: &Url<'_>,
        place: Place,
    ) -> Result<(), Fault> {
        let asked = Presentation::of(url);
        let describes = matches!(method, Method::Describe | Method::Announce);
        let under_way = !self.tracks.is_empty() || self.is_setting_up();
        self.reach.permitted = Some(place.route);
        if let Some(bound) = &mut self.reach.bound {
            if under_way {
                let signed = self.mapping.as_ref().is_some_and(|mapping| mapping.keep_uri);
                if !bound.fits(&asked, place.route, method, signed) {
                    return Err(Fault::OtherPresentation);
                }
                bound.taken_up = false;
                return Ok(());
            }
            let within = bound.route == Some(place.route) && bound.presentation.has(asked.path());
            if within && (!describes || bound.presentation == asked) {
                return Ok(());
            }
        }
        let route = self.newest().routes().get(place.route);
        let by_track = method == Method::Setup && route.is_some_and(Route::is_open_ended);
        let presentation = if describes { asked } else { place.presentation };
        let place = Place { presentation, ..place };
        self.bind(uri, url, place, by_track)
    }

    fn bind(
        &mut self,
        uri: &[u8],
        url: &Url<'_>,
        place: Place,
        by_track: bool,
    ) -> Result<(), Fault> {
        let same_route = self.next_table.is_none() && self.route == Some(place.route);
        let by_path = self.route_config(|route| {
            route.origins.len() > 1 && matches!(route.policy, Policy::HashPath | Policy::Plugin(_))
        });
        let bound = self.reach.bound.as_ref();
        let same_path = bound
            .is_some_and(|bound| same_path(bound.presentation.path(), place.presentation.path()));
        let stays = same_route && (same_path || by_path != Some(true));
        if !stays && (!self.requests.is_empty() || self.has_farewell_to_say()) {
            return Err(Fault::WrongState);
        }
        if stays && !same_path {
            self.leave_redirect();
        }
        let kept = self.mapping.take().filter(|_| stays);
        if !stays {
            if self.link != Link::Down {
                self.outputs.push_back(Output::DropOrigin);
            }
            self.unbind();
            if let Some(table) = self.next_table.take() {
                self.table = table;
            }
        }
        self.route = Some(place.route);
        self.path = match place.presentation.path() {
            b"" => b"/".to_vec(),
            path => path.to_vec(),
        };
        self.presentation = uri.to_vec();
        self.reach.bound = Some(Bound {
            presentation: place.presentation.clone(),
            route: Some(place.route),
            by_track,
            taken_up: false,
        });
        let authority = [url.scheme, b"://", url.host_port()].concat();
        let scope = Scope { table: Arc::clone(&self.table), place, aliases: self.around.aliases };
        self.mapping = Some(match kept {
            Some(mapping) => {
                let client = Base { authority, ..mapping.client };
                Mapping { client, scope, ..mapping }
            }
            None => {
                let route = self.table.routes().get(scope.place.route);
                let path = route.map(|route| route.literal_prefix().to_vec()).unwrap_or_default();
                let client = Base { authority, path };
                Mapping { client, origin: Base::default(), keep_uri: false, scope }
            }
        });
        Ok(())
    }

    /// What the session is bound to.
    pub(super) fn bound_to(&self) -> Option<&Presentation> {
        self.reach.bound.as_ref().map(|bound| &bound.presentation)
    }

    /// The configuration changed: the next session on this connection goes by this table. One that is
    /// under way keeps its origin. Grants end whose route is not as it was.
    pub fn set_table(&mut self, table: Arc<Table>) {
        let before = Arc::clone(self.newest());
        self.reach.grants.move_to(&before, &table);
        let permitted = self.reach.permitted;
        self.reach.permitted = permitted.and_then(|route| before.same_route(route, &table));
        if let Some(place) = &mut self.reach.wanted {
            match before.same_route(place.route, &table) {
                Some(route) => place.route = route,
                None => self.reach.wanted = None,
            }
        }
        if let Some(bound) = &mut self.reach.bound {
            bound.route = bound.route.and_then(|route| before.same_route(route, &table));
        }
        self.next_table = Some(table);
    }

    /// Grants of users who are no longer what they were end.
    pub fn end_of_users(&mut self, holds: impl Fn(&str) -> bool) {
        self.reach.grants.end_of_users(holds);
    }

    /// Between two sessions the newest table is taken up. A SETUP belongs to the DESCRIBE before it,
    /// as long as its route is the same.
    pub(super) fn take_up_table(&mut self, method: Method) {
        let holds = self.reach.bound.as_ref().is_some_and(|bound| bound.route.is_some());
        let under_way = !self.tracks.is_empty()
            || !self.requests.is_empty()
            || self.deciding.is_some()
            || self.has_farewell_to_say()
            || (method == Method::Setup && holds);
        if under_way {
            return;
        }
        let Some(table) = self.next_table.take() else { return };
        if self.link != Link::Down {
            self.outputs.push_back(Output::DropOrigin);
        }
        self.unbind();
        self.table = table;
    }

    /// The session goes on for a client that came back on another connection: whoever that is has to
    /// say so.
    pub(super) fn taken_up(&mut self) {
        self.reach.grants.end();
        if let Some(bound) = &mut self.reach.bound {
            bound.taken_up = true;
        }
    }

    pub(super) fn unbind_presentation(&mut self) {
        self.reach.bound = None;
    }
}
