//! One client connection, its origin and its tracks: the conversation as a state machine.
//!
//! [`Session`] is told what happened ([`Session::handle`], [`Session::message`],
//! [`Session::frame`], [`Session::tick`]) and says what is to be done ([`Session::poll_output`],
//! [`Session::outbox`], [`Session::deadline`]). **After each call, drain the outputs until there
//! is none, then write the outboxes, before waiting for anything.**
//!
//! ```text
//!            SETUP 200          PLAY 200
//!   Init ───────────────▶ Ready ─────────▶ Playing
//!    ▲                     │ ▲   RECORD     │  │
//!    │      TEARDOWN 200   │ └──────────────┘  │ PAUSE 200, PLAY again: the pipes stay as they are
//!    └─────────────────────┴───────────────────┘
//! ```
//!
//! Each request of the client is judged by its URL ([`crate::scope::permits`]) before anything of it
//! may leave.
//!
//! Decisions that are not its own leave as outputs and come back as inputs: who the client is
//! ([`Output::Authenticate`]), what a filter makes of a message ([`Output::Filter`]), which origin to
//! use ([`Output::Connect`]), which ports ([`Output::Bind`]). It cannot tell whether a table, a guest
//! or a test gave the verdict.
//!
//! One connection holds one session at a time, bound to one presentation and one origin; after
//! TEARDOWN it may begin another. Until SETUP is answered an origin that fails is replaced by another of the route, and
//! the requests without an answer are sent to that one.
//!
//! Long because one conversation has one state: all that it is told and asked passes here.
//!
//! Not in here: sockets, threads, the clock, the log, and datagrams, which never come near it.

mod anew;
mod answer;
mod asked;
mod base;
mod carry;
mod client;
mod cseq;
mod end;
mod fault;
mod filter;
mod ids;
mod inbox;
mod keepalive;
mod mapping;
mod meant;
mod negotiate;
mod origin;
mod outbox;
mod own;
mod pace;
mod reach;
mod redirect;
mod rewrite;
mod shown;
mod silence;
mod tracks;
mod unasked;
mod words;

use core::time::Duration;
use std::{borrow::Cow, collections::VecDeque, sync::Arc};

use self::{
    cseq::{Numbering, Outstanding},
    ids::Ids,
    keepalive::Keepalive,
    mapping::Mapping,
    negotiate::Wish,
    reach::Reach,
    redirect::Moved,
    unasked::Unasked,
};
pub use self::{
    fault::{Fault, Whose},
    ids::{IdSource, pseudonym},
    inbox::{Flow as Feed, Inbox},
    outbox::{Bounds, Outbox, Stuck},
    tracks::{Leg, Plan, Route as FrameRoute, Track, Tracks},
    words::{Input, OriginLink, Output, Sight, State, Surroundings},
};
pub use crate::pipe::{Kind as Flow, Side};
use crate::{
    auth::Signer,
    clock::Instant,
    limits::{DESCRIBED_HOLDS_MS, REPLY_QUEUE_SOFT_BYTES, REQUESTS_KEPT_OF_CONNECTION_BYTES},
    origin::Table,
    pipe::says_bye,
    rtsp::{
        Method, Version,
        emit::{self, Manner},
    },
    scope::Presentation,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    Wanted,
    Up,
}

/// What is remembered for a request of the client.
#[derive(Debug, Default)]
struct Note {
    setup: Option<SetupNote>,
    signed: u8,
    retried: bool,
    /// An origin failed over it; it is carried to one other at most.
    carried: bool,
    /// Its origin was connected to again, since it hung up with its challenge.
    rejoined: bool,
    /// Redirects that were followed for it.
    hops: u8,
    /// It has had its second time for an answer.
    patient: bool,
    not_before: Option<Instant>,
    sent_at: Instant,
    /// Which session of the connection it was asked in.
    session: u32,
    /// Of DESCRIBE: what its client knows it by.
    describes: Option<Presentation>,
}

#[derive(Clone, Copy, Debug)]
struct SetupNote {
    track: u8,
    spec: usize,
    client: Leg,
    asked: Leg,
    ours: Option<(u16, u16)>,
}

/// A request of the gateway's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Keepalive,
    /// Whether it is alive, since its media stay away.
    Probe,
    Teardown,
    /// TEARDOWN of a session which the client has left for another one.
    Left,
    /// After a PLAY or RECORD whose answer a filter kept from the client.
    Pause,
    /// The client's SETUP that was under way when it left: the origin holds a session if it says yes.
    Setup,
}

/// The client's request that waits for a verdict.
#[derive(Debug)]
struct Deciding {
    raw: Vec<u8>,
    head: usize,
    setup: Option<(SetupNote, Wish)>,
}

/// One client connection and the session on it.
#[derive(Debug)]
pub struct Session {
    around: Surroundings,
    table: Arc<Table>,
    /// The one that the next session goes by.
    next_table: Option<Arc<Table>>,
    version: Version,
    to_client: Outbox,
    to_origin: Outbox,
    requests: Outstanding<Note>,
    own: Outstanding<Own>,
    origin_requests: Outstanding<()>,
    /// What the origin says that nobody asked for.
    unasked: Unasked,
    unasked_by_client: Unasked,
    deciding: Option<Deciding>,
    filtering: Option<Box<filter::Filtering>>,
    reach: Reach,
    route: Option<usize>,
    path: Vec<u8>,
    link: Link,
    origin: Option<OriginLink>,
    tried: Vec<usize>,
    /// The last of those that were tried took the request and said nothing.
    silent: bool,
    mapping: Option<Mapping>,
    presentation: Vec<u8>,
    /// What stands for all tracks; empty before there are any.
    aggregate: Vec<u8>,
    /// How this origin numbers its answers.
    numbering: Numbering,
    /// Control URLs whose media is not audio or video, by their last bytes.
    quiet_controls: Vec<Vec<u8>>,
    ids: Ids,
    tracks: Tracks,
    state: State,
    keepalive: Keepalive,
    media_promised: bool,
    /// The player reads at its own pace and the origin sends at that.
    paced: bool,
    /// When a range ends that was asked for: silence after that is no fault.
    promised_until: Option<Instant>,
    /// When RTP or RTCP of the origin last came, or its media were promised.
    last_media: Instant,
    last_rtp: Instant,
    /// The origin said BYE, and no RTP has come since.
    said_bye: bool,
    /// Anything of the media, reports too, has come in this session.
    heard: bool,
    /// Since when it is asked whether an origin whose media stay away is alive.
    probed: Option<Instant>,
    last_client: Instant,
    /// When the origin last answered anything.
    last_answer: Instant,
    /// Whether the connection to the origin has had an answer to anything.
    answered_here: bool,
    /// Numbers of requests that were given up: their answers may still come.
    given_up: VecDeque<u32>,
    /// The origin to connect to again, and what is known of its challenge.
    again: Option<(usize, Option<Signer>)>,
    /// After the end: the TEARDOWNs that went out, by number and id.
    farewells: Vec<(u32, Vec<u8>)>,
    /// Number of the newest SETUP that was granted.
    last_setup: Option<u32>,
    /// The origin granted a track of the session that nobody uses.
    unkept: bool,
    /// Where a redirect leads that is followed.
    moved: Option<Moved>,
    /// Ids of sessions that the origin began beside the one that is known by its first id.
    strays: Vec<Vec<u8>>,
    /// The origin whose URLs the mapping knows.
    mapped: Option<usize>,
    close_when_answered: bool,
    /// The client's connection is gone, its media flow on.
    detached: bool,
    outputs: VecDeque<Output>,
    ended: Option<Fault>,
    user_agent: String,
}

impl Session {
    /// A connection that was just accepted.
    pub fn new(around: Surroundings, table: Arc<Table>, now: Instant) -> Self {
        let bounds = around.media_queue;
        let ids = Ids::new(around.ids.clone());
        Self {
            around,
            table,
            next_table: None,
            version: Version::V1,
            to_client: Outbox::new(bounds),
            to_origin: Outbox::new(bounds),
            requests: Outstanding::default(),
            own: Outstanding::default(),
            origin_requests: Outstanding::default(),
            unasked: Unasked::default(),
            unasked_by_client: Unasked::default(),
            deciding: None,
            filtering: None,
            reach: Reach::default(),
            route: None,
            path: Vec::new(),
            link: Link::Down,
            origin: None,
            tried: Vec::new(),
            silent: false,
            mapping: None,
            presentation: Vec::new(),
            aggregate: Vec::new(),
            numbering: Numbering::default(),
            quiet_controls: Vec::new(),
            ids,
            tracks: Tracks::default(),
            state: State::Init,
            keepalive: Keepalive::new(None, now),
            media_promised: false,
            paced: false,
            promised_until: None,
            last_media: now,
            last_rtp: Instant::START,
            said_bye: false,
            heard: false,
            probed: None,
            last_client: now,
            last_answer: now,
            answered_here: false,
            given_up: VecDeque::new(),
            again: None,
            farewells: Vec::new(),
            last_setup: None,
            unkept: false,
            moved: None,
            strays: Vec::new(),
            mapped: None,
            close_when_answered: false,
            detached: false,
            outputs: VecDeque::new(),
            ended: None,
            user_agent: String::new(),
        }
    }

    /// One whole message of a side: `bytes`, of which the head takes the first `head`.
    pub fn message(&mut self, side: Side, bytes: &[u8], head: usize, now: Instant) {
        let manner = match side {
            Side::Client => Manner::Strict,
            Side::Origin => Manner::Lenient,
        };
        // From here on heads are clean: what readers differ about ends here.
        match emit::clean(bytes.get(..head).unwrap_or_default(), manner) {
            Ok(Cow::Borrowed(_)) => self.clean_message(side, bytes, head, now),
            Ok(Cow::Owned(clean)) => {
                let body = bytes.get(head..).unwrap_or_default();
                self.clean_message(side, &[&clean, body].concat(), clean.len(), now);
            }
            Err(_) if self.ended.is_some() => {}
            Err(what) => self.unclean_message(side, what, bytes.get(..head).unwrap_or_default()),
        }
        self.flush_answers(now);
        self.check_invariants();
    }

    fn clean_message(&mut self, side: Side, bytes: &[u8], head: usize, now: Instant) {
        if self.ended.is_some() {
            if side == Side::Origin {
                self.late_answer(bytes, head, now);
            }
            return;
        }
        self.filter_must_be_done(now);
        match side {
            Side::Client => self.client_message(bytes, head, now),
            Side::Origin => self.origin_message(bytes, head, now),
        }
    }

    /// What happens to a frame that came in on this channel; none: not negotiated, to be dropped
    /// and counted.
    pub fn frame(
        &mut self,
        from: Side,
        channel: u8,
        payload: &[u8],
        now: Instant,
    ) -> Option<FrameRoute> {
        let (flow, route) = self.tracks.route(from, channel)?;
        self.alive(from, now);
        match (from, flow) {
            (Side::Origin, Flow::Rtcp) if says_bye(payload) => self.media_ended(),
            (Side::Origin, Flow::Rtp) => self.media_came(now),
            _ => {}
        }
        Some(route)
    }

    /// A side gave a sign of life other than a message: a frame, a datagram through a pipe, media
    /// that it took.
    pub fn alive(&mut self, side: Side, at: Instant) {
        match side {
            Side::Client => self.last_client = self.last_client.max(at),
            Side::Origin => {
                if at > self.last_media {
                    self.last_media = at;
                    self.probed = None;
                }
                self.heard |= at > Instant::START;
            }
        }
    }

    /// RTP of the origin came: after a BYE it is promised again.
    pub fn media_came(&mut self, at: Instant) {
        if at > self.last_rtp {
            self.last_rtp = at;
            if core::mem::take(&mut self.said_bye) {
                self.media_promised = self.state == State::Playing && self.has_steady();
            }
        }
    }

    /// Whether silence of any of its tracks would be a fault.
    fn has_steady(&self) -> bool {
        self.tracks.iter().any(|track| track.steady)
    }

    /// The origin said that its media is at an end (RTCP BYE, the end of a recording): silence is
    /// no fault until RTP comes again, or the next PLAY.
    pub fn media_ended(&mut self) {
        self.media_promised = false;
        self.said_bye = true;
    }

    /// An answer to an output, or news.
    pub fn handle(&mut self, input: Input, now: Instant) {
        if self.ended.is_some() {
            return;
        }
        match input {
            Input::Granted { user } => self.granted(user, None, now),
            Input::GrantedFor(ttl) => self.granted(String::new(), Some(now + ttl), now),
            Input::Challenge(values) => self.challenge(&values),
            Input::Denied => self.refuse_decided(Fault::BadAuthorization),
            Input::DeniedAs(status) => self.deny(status),
            Input::AuthFailed => self.refuse_decided(Fault::PluginFailed),
            Input::Unchecked(fault) => self.refuse_decided(fault),
            Input::Filtered(verdict) => self.filtered(verdict, now),
            Input::Bound { client, origin } => self.bound(client, origin, now),
            Input::NotBound(fault) => self.refuse_decided(fault),
            Input::Connected(link) => self.connected(*link, now),
            Input::ConnectFailed(index) => {
                self.tried.push(index);
                self.again = None;
                self.moved = None;
                self.silent = false;
                self.link = Link::Down;
                self.pump(now);
            }
            Input::OriginFull(index) => self.origin_full(index),
            Input::NoOrigin(fault) => {
                self.link = Link::Down;
                self.tried.clear();
                self.again = None;
                self.moved = None;
                let silent = core::mem::take(&mut self.silent) && fault == Fault::OriginGone;
                let fault = if silent { Fault::OriginSilent } else { fault };
                self.note(fault);
                self.fail_requests(fault);
            }
            Input::NotFound => self.refuse_decided(Fault::NoSession),
            Input::Attached => {
                self.detached = false;
                self.last_client = now;
                self.taken_up();
            }
            Input::SideClosed(Side::Client) => self.client_closed(now),
            Input::SideClosed(Side::Origin) => self.origin_closed(now),
            Input::End(fault) => self.end(fault, now),
        }
        self.flush_answers(now);
        self.check_invariants();
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What waits to be written to a side.
    pub fn outbox(&mut self, side: Side) -> &mut Outbox {
        match side {
            Side::Client => &mut self.to_client,
            Side::Origin => &mut self.to_origin,
        }
    }

    /// Whether a side's connection is to be read now. A client with ten requests outstanding, or
    /// with answers that it does not fetch, is not (RFC 7826 10.2); an origin is not while a player that
    /// sets the pace has enough to read.
    pub fn wants(&self, side: Side) -> bool {
        match side {
            Side::Origin => !self.holds_origin(),
            Side::Client => {
                self.deciding.is_none()
                    && self.requests.has_room()
                    && self.requests.kept_bytes() < REQUESTS_KEPT_OF_CONNECTION_BYTES
                    && self.to_client.reply_bytes() < REPLY_QUEUE_SOFT_BYTES
            }
        }
    }

    /// Whether the client is still to hear something. One that sends no more may well read on.
    pub fn owes_client(&self) -> bool {
        !self.requests.is_empty() || self.deciding.is_some() || self.to_client.reply_bytes() > 0
    }

    /// Bytes of the client's requests in memory.
    pub fn kept_bytes(&self) -> usize {
        let deciding = self.deciding.as_ref().map_or(0, |deciding| deciding.raw.len());
        self.requests.kept_bytes() + deciding + self.to_origin.reply_bytes()
    }

    /// A connection that rests between two sessions takes up the newest table without being asked;
    /// whether it did.
    pub fn rest(&mut self, now: Instant) -> bool {
        let holds = Duration::from_millis(DESCRIBED_HOLDS_MS);
        let waits = self.next_table.is_some() && self.last_client + holds <= now;
        if waits {
            self.take_up_table(Method::Other);
        }
        waits && self.next_table.is_none()
    }

    /// The table that this session goes by.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Whole request that waits for a verdict, and the length of its head.
    pub fn deciding(&self) -> Option<(&[u8], usize)> {
        self.deciding.as_ref().map(|deciding| (&deciding.raw[..], deciding.head))
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its tracks.
    pub fn tracks(&self) -> &Tracks {
        &self.tracks
    }

    /// Name of its origin, empty before one is chosen.
    pub fn origin_name(&self) -> &str {
        self.origin.as_ref().map_or("", |origin| &origin.name)
    }

    /// The route it goes by.
    pub fn route(&self) -> Option<usize> {
        self.route
    }

    /// The path that was asked for.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The client's User-Agent.
    pub fn user_agent(&self) -> &str {
        &self.user_agent
    }

    /// Why it ended.
    pub fn ended(&self) -> Option<Fault> {
        self.ended
    }

    /// Whether it takes a place among the sessions: a track is set up, or is being set up.
    pub fn holds_place(&self) -> bool {
        !self.tracks.is_empty()
            || self.deciding.as_ref().is_some_and(|deciding| deciding.setup.is_some())
            || self.requests.open().any(|(_, pending)| pending.note.setup.is_some())
    }

    /// Whether something is still to be heard from the origin after the end: the answer to
    /// TEARDOWN.
    pub fn lingers(&self) -> bool {
        self.ended.is_some() && !self.own.is_empty()
    }

    /// Whether the answer to a SETUP is still to be heard after the end: the origin may have begun a
    /// session that has to be ended.
    pub fn awaits_session(&self) -> bool {
        self.ended.is_some() && self.own.open().any(|(_, own)| own.note == Own::Setup)
    }

    fn unbind(&mut self) {
        self.route = None;
        self.link = Link::Down;
        self.origin = None;
        self.tried.clear();
        self.mapping = None;
        self.unbind_presentation();
        self.mapped = None;
        self.moved = None;
        self.ids.forget_theirs();
        self.quiet_controls.clear();
    }

    fn note(&mut self, fault: Fault) {
        self.outputs.push_back(Output::Note(fault));
    }

    fn seen(&mut self, sight: Sight) {
        // What another host does says nothing about the origin that led there.
        if let Some(origin) = &self.origin
            && self.moved.is_none()
        {
            self.outputs.push_back(Output::Seen(origin.index, sight));
        }
    }

    fn flush_answers(&mut self, now: Instant) {
        while let Some(answer) = self.requests.ready() {
            if self.detached {
                continue; // nobody is there to hear it
            }
            if self.to_client.push_reply(&answer).is_err() && self.ended.is_none() {
                self.end(Fault::Stuck, now);
            }
        }
        if self.close_when_answered
            && !self.detached
            && self.requests.is_empty()
            && self.deciding.is_none()
            && self.ended.is_none()
        {
            self.end(Fault::ClientGone, now);
        }
    }

    fn check_invariants(&self) {
        debug_assert!(
            self.state == State::Init || !self.tracks.is_empty(),
            "a session beyond Init has a track"
        );
        debug_assert!(
            self.link != Link::Up || self.origin.is_some(),
            "an open connection belongs to a known origin"
        );
        debug_assert!(self.outputs.len() < 256, "outputs are drained after each call");
    }
}
