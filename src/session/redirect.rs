//! Where an origin's redirect leads. Where the route says so it is followed inside the gateway, a few
//! hops long: the player sees no 3xx, and no other host than ours. So is one to an origin of the
//! configuration that would lead the player to the URL which it has just asked for.
//!
//! Only before anything is set up, and only what may be asked again. Not in here: which addresses may
//! be connected to, which the shell knows (never its own machine or link, unless the origin is there).

use super::{Link, Session, carry::may_be_repeated};
use crate::{
    clock::Instant,
    config::Redirect,
    limits::REDIRECTS_MAX,
    rtsp::{
        Head, Url,
        url::{Base, DEFAULT_PORT},
    },
};

/// Where a presentation is to be had for now.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    /// The origin that said so.
    pub(super) by: usize,
    pub(super) host: Vec<u8>,
    pub(super) port: u16,
    /// What it is there, and what it is to the client.
    pub(super) there: Base,
    pub(super) here: Vec<u8>,
}

impl Session {
    /// Asks again where a redirect leads; whether it is followed.
    pub(super) fn follows(
        &mut self,
        at: usize,
        status: u16,
        head: &Head<'_>,
        now: Instant,
    ) -> bool {
        let Some(moved) = self.leads_to(at, status, head) else { return false };
        let Some(pending) = self.requests.get_mut(at) else { return false };
        pending.note.hops += 1;
        pending.note.signed = 0;
        pending.sent = None;
        let connected = self.mapping.as_ref().map(|mapping| &mapping.origin.authority);
        let stays = connected == Some(&moved.there.authority);
        self.again = Some((moved.by, None));
        self.moved = Some(moved);
        if stays {
            self.again = None;
            self.go_by_redirect();
            self.pump(now);
        } else {
            self.leave_origin(now);
        }
        true
    }

    fn leads_to(&self, at: usize, status: u16, head: &Head<'_>) -> Option<Moved> {
        let pending = self.requests.get(at)?;
        let alone = self.requests.open().filter(|(_, other)| other.sent.is_some()).count() == 1;
        let may = (300..400).contains(&status)
            && alone
            && self.tracks.is_empty()
            && may_be_repeated(pending.method)
            && pending.note.hops < REDIRECTS_MAX;
        if !may {
            return None;
        }
        let location = head.header("Location")?.value;
        // In a request line a space would end it.
        if location.iter().any(|byte| *byte == b' ' || byte.is_ascii_control()) {
            return None;
        }
        let there = Url::parse(location).ok()?;
        // To another origin under the same URL of ours: the player could only ask for that again.
        let known = self.table.has_at(there.host, there.port_or_default());
        let same = || self.mapping.as_ref()?.to_client(location);
        let follows = self.route_config(|route| route.redirect) == Some(Redirect::Follow)
            || (known && same().as_ref() == Some(&self.presentation));
        if !follows {
            return None;
        }
        if !there.scheme.eq_ignore_ascii_case(b"rtsp") {
            return None;
        }
        let raw = &pending.raw;
        let asked = Head::parse(raw.get(..super::client::head_len(raw)?)?).ok()?;
        let here = Url::parse(asked.uri()?).ok()?;
        let port = there.port.unwrap_or(DEFAULT_PORT);
        let authority = [b"rtsp://", there.host, b":", port.to_string().as_bytes()].concat();
        let whole = |path: &[u8]| path.strip_suffix(b"/").unwrap_or(path).to_vec();
        Some(Moved {
            by: self.origin.as_ref()?.index,
            host: there.host.to_vec(),
            port,
            there: Base { authority, path: whole(there.rest) },
            here: whole(here.rest),
        })
    }

    /// What the presentation is called where it is now.
    pub(super) fn go_by_redirect(&mut self) {
        if let (Some(moved), Some(mapping)) = (&self.moved, &mut self.mapping) {
            mapping.origin = moved.there.clone();
            mapping.client.path.clone_from(&moved.here);
        }
    }

    /// Another presentation is asked for than the one that was redirected: of the origin itself.
    pub(super) fn leave_redirect(&mut self) {
        if self.moved.is_none() || !self.requests.is_empty() {
            return;
        }
        self.moved = None;
        self.mapped = None;
        if self.link != Link::Down {
            self.outputs.push_back(super::Output::DropOrigin);
        }
        self.link = Link::Down;
        self.origin = None;
    }
}
