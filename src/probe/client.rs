//! The probe's connection: requests out, answers and interleaved frames in, challenges answered.
//!
//! Not in here: which requests (`play`), what frames hold (`stats`).

use core::time::Duration;
use std::{
    io::{Error, ErrorKind},
    net::{SocketAddr, TcpStream},
};

use async_io::{Async, Timer};
use smol::{
    future::or,
    io::{AsyncReadExt, AsyncWriteExt},
};

use super::{ProbeError, WireFault};
use crate::{
    auth::{Credentials, Signer},
    camera::wire::{Inbox, Item, Message},
    limits::PROBE_ATTEMPTS_MAX,
    rtsp::url::{DEFAULT_PORT, Url},
};

/// For a connection and for each answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer of the server.
pub(super) struct Answer {
    /// Status code.
    pub(super) code: u16,
    /// The whole of it.
    pub(super) message: Message,
}

/// An open connection.
pub(super) struct Client {
    stream: Async<TcpStream>,
    inbox: Inbox,
    signer: Option<Signer>,
    cseq: u32,
    /// Value of the Session header, without parameters.
    pub(super) session: Option<String>,
    /// The first challenge that came.
    pub(super) challenged: Option<String>,
    buffer: Vec<u8>,
}

/// The URL that requests name (without user and password), and the signer for those.
pub(super) fn target(text: &str) -> Result<(String, Option<Signer>), ProbeError> {
    let (bare, inside) = apart(text)?;
    let signer = inside.map(|(user, password)| {
        let credentials = Credentials::new(&user, &password);
        Signer::new(credentials, getrandom::u64().unwrap_or_default())
    });
    Ok((bare, signer))
}

/// A URL as people have it: without user and password, and those, unescaped.
///
/// # Errors
/// [`ProbeError::Url`] or [`ProbeError::Tls`]; the URL is not in them.
pub fn apart(text: &str) -> Result<(String, Option<(String, String)>), ProbeError> {
    let url = Url::parse(text.as_bytes()).map_err(|_| ProbeError::Url)?;
    if url.scheme.eq_ignore_ascii_case(b"rtsps") {
        return Err(ProbeError::Tls);
    }
    if !url.scheme.eq_ignore_ascii_case(b"rtsp")
        || text.contains(|it: char| it.is_control() || it == ' ')
    {
        return Err(ProbeError::Url);
    }
    let utf8 = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let bare = format!("rtsp://{}{}", utf8(url.host_port()), utf8(url.rest));
    let inside = url.userinfo.map(|userinfo| {
        let userinfo = utf8(userinfo);
        let (user, password) = userinfo.split_once(':').unwrap_or((&userinfo, ""));
        (unescaped(user), unescaped(password))
    });
    Ok((bare, inside))
}

impl Client {
    /// Connects to the server of a URL, trying its addresses in turn.
    pub(super) async fn connect(url: &str, signer: Option<Signer>) -> Result<Self, ProbeError> {
        let parsed = Url::parse(url.as_bytes()).map_err(|_| ProbeError::Url)?;
        let host = String::from_utf8_lossy(parsed.host).into_owned();
        let port = parsed.port.unwrap_or(DEFAULT_PORT);
        let unreachable = |error| ProbeError::Connect(host.clone(), port, error);
        let lookup = format!("{host}:{port}");
        let unknown = |error| ProbeError::Name(host.clone(), error);
        let addresses = within(smol::net::resolve(lookup)).await.map_err(unknown)?;
        let mut last = Error::new(ErrorKind::NotFound, "the name has no address");
        for address in addresses.into_iter().take(4) {
            match within(Async::<TcpStream>::connect(address)).await {
                Ok(stream) => {
                    return Ok(Self {
                        stream,
                        inbox: Inbox::default(),
                        signer,
                        cseq: 0,
                        session: None,
                        challenged: None,
                        buffer: vec![0; 16 * 1024],
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(unreachable(last))
    }

    /// Both ends of the connection: ours, the server's.
    pub(super) fn addresses(&self) -> Result<(SocketAddr, SocketAddr), ProbeError> {
        let stream = self.stream.get_ref();
        let both = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
        both.map_err(ProbeError::Lost)
    }

    /// Sends a request and waits for its answer; a challenge is answered. Frames that come between
    /// go to `frames`.
    pub(super) async fn ask(
        &mut self,
        method: &'static str,
        url: &str,
        headers: &[(&str, &str)],
        mut frames: impl FnMut(u8, &[u8]),
    ) -> Result<Answer, ProbeError> {
        for _ in 0..PROBE_ATTEMPTS_MAX {
            let cseq = self.send(method, url, headers).await?;
            let message = self.wait_for(cseq, method, &mut frames).await?;
            let code = status(&message).ok_or(ProbeError::NotRtsp("a status line is broken"))?;
            if let Some(session) = message.header("Session") {
                let id = session.split(';').next().unwrap_or(session).trim();
                self.session.get_or_insert_with(|| id.to_owned());
            }
            if code == 401 {
                let challenge = message.header("WWW-Authenticate");
                self.challenged = self.challenged.take().or_else(|| challenge.map(str::to_owned));
                if self.is_challenged(&message) {
                    continue;
                }
            }
            return Ok(Answer { code, message });
        }
        Err(ProbeError::NotRtsp("the server challenges without end"))
    }

    /// Takes the challenges of a 401; true: a request may be sent again, signed anew.
    pub(super) fn is_challenged(&mut self, message: &Message) -> bool {
        let challenges = message.all("WWW-Authenticate");
        let challenges: Vec<&[u8]> = challenges.iter().map(|it| it.as_bytes()).collect();
        self.signer.as_mut().is_some_and(|signer| signer.challenge(&challenges))
    }

    /// Sends a request; its CSeq.
    pub(super) async fn send(
        &mut self,
        method: &'static str,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<u32, ProbeError> {
        self.cseq += 1;
        let mut text = format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\n", self.cseq);
        if let Some(session) = &self.session {
            text.push_str(&format!("Session: {session}\r\n"));
        }
        let signature =
            self.signer.as_mut().and_then(|it| it.authorization(method.as_bytes(), url.as_bytes()));
        if let Some(signature) = signature {
            text.push_str(&format!("Authorization: {signature}\r\n"));
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("User-Agent: edgeweir-probe\r\n\r\n");
        self.write(text.as_bytes()).await?;
        Ok(self.cseq)
    }

    /// Sends an interleaved frame.
    pub(super) async fn send_frame(
        &mut self,
        channel: u8,
        payload: &[u8],
    ) -> Result<(), ProbeError> {
        let Ok(length) = u16::try_from(payload.len()) else { return Ok(()) };
        let [high, low] = length.to_be_bytes();
        self.write(&[&[b'$', channel, high, low], payload].concat()).await
    }

    /// The next item of the server. May be dropped while it waits.
    pub(super) async fn item(&mut self) -> Result<Item, ProbeError> {
        loop {
            if let Some(item) =
                self.inbox.next().map_err(|error| ProbeError::Wire(WireFault(error)))?
            {
                return Ok(item);
            }
            let length = self.stream.read(&mut self.buffer).await.map_err(ProbeError::Lost)?;
            if length == 0 {
                return Err(ProbeError::Closed);
            }
            self.inbox.feed(self.buffer.get(..length).unwrap_or_default());
        }
    }

    /// Answers a request of the server: OPTIONS and keepalives are all that it needs.
    pub(super) async fn reply(&mut self, request: &Message) -> Result<(), ProbeError> {
        let cseq: String = request.header("CSeq").unwrap_or_default().chars().take(20).collect();
        let known = ["OPTIONS ", "GET_PARAMETER ", "SET_PARAMETER "];
        let status = match known.iter().any(|it| request.start.starts_with(it)) {
            true => "200 OK",
            false => "501 Not Implemented",
        };
        self.write(format!("RTSP/1.0 {status}\r\nCSeq: {cseq}\r\n\r\n").as_bytes()).await
    }

    async fn wait_for(
        &mut self,
        cseq: u32,
        method: &'static str,
        frames: &mut impl FnMut(u8, &[u8]),
    ) -> Result<Message, ProbeError> {
        let late = async {
            Timer::after(ANSWER_TIMEOUT).await;
            Err(ProbeError::Silent(method))
        };
        let answer = async {
            loop {
                match self.item().await? {
                    Item::Frame { channel, payload } => frames(channel, &payload),
                    Item::Message(message) if status(&message).is_none() => {
                        self.reply(&message).await?;
                    }
                    Item::Message(message) => {
                        let theirs = message.header("CSeq").and_then(|it| it.parse::<u32>().ok());
                        if theirs.is_none_or(|theirs| theirs == cseq) {
                            return Ok(message);
                        }
                    }
                }
            }
        };
        or(answer, late).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ProbeError> {
        within(self.stream.write_all(bytes)).await.map_err(ProbeError::Lost)
    }
}

/// The status code, if it is a response.
pub(super) fn status(message: &Message) -> Option<u16> {
    message.start.strip_prefix("RTSP/")?.split(' ').nth(1)?.parse().ok()
}

/// `future`, or a time-out after [`ANSWER_TIMEOUT`].
async fn within<T>(future: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    let late = async {
        Timer::after(ANSWER_TIMEOUT).await;
        Err(Error::new(ErrorKind::TimedOut, "no answer within 10 s"))
    };
    or(future, late).await
}

/// `%40` and the like as what they stand for, in user names and passwords only.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let pair = after.get(..2).filter(|_| first == b'%');
        let pair = pair.and_then(|pair| core::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_never_stays_in_the_url() {
        let (bare, signer) = target("rtsp://u:p%40ss@h:9/a?x=1").expect("valid");
        assert_eq!(bare, "rtsp://h:9/a?x=1");
        let shown = format!("{signer:?}");
        assert!(signer.is_some() && !shown.contains("p@ss"), "{shown}");
        assert!(target("rtsp://h/").is_ok_and(|(_, signer)| signer.is_none()));
        for bad in ["", "http://h/", "rtspu://h/", "rtsp://h/a b", "rtsp://h/\r\nX: y", "rtsp://"] {
            assert!(matches!(target(bad), Err(ProbeError::Url)), "{bad}");
        }
        let told = target("rtsps://u:p@h/").unwrap_err().to_string();
        assert!(told.contains("not there yet"), "{told}");
    }

    #[test]
    fn escapes_that_are_none_stay() {
        for (text, plain) in [("a%40b", "a@b"), ("100%", "100%"), ("%4", "%4"), ("%zz%41", "%zzA")]
        {
            assert_eq!(unescaped(text), plain);
        }
    }
}
