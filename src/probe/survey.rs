//! One look at a camera or recorder: is it there, does it let us in, what does it have, does media
//! come over UDP and over TCP; and where something is wrong, which of the usual causes it is.
//!
//! Each step is only taken when the one before went well, so that a finding names the first cause and
//! not what follows from it. Not in here: which origins are asked, and printing.

use core::time::Duration;
use std::io::ErrorKind;

use super::{
    Options, ProbeError, Report, Transport,
    client::{self, Client},
    describe, play,
};
use crate::{
    auth::{Credentials, Signer},
    clock::now,
    control::model::{Finding, Severity, Survey, SurveyTrack},
};

/// What is looked at, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// `rtsp://host[:port][/path]`; user and password in it are refused.
    pub url: String,
    /// What is signed with.
    pub credentials: Option<Credentials>,
    /// What findings call it, as `origin nvr`.
    pub about: String,
    /// Whether the URL names something that can be played; else the server is only greeted.
    pub plays: bool,
    /// Seconds that the gateway waits for an answer of an origin.
    pub patience_s: u16,
    /// Seconds since 1970, where our clock can be believed.
    pub unix_s: Option<i64>,
    /// Ports that media comes to, first and last; none: any.
    pub ports: Option<(u16, u16)>,
    /// Players sign in for themselves: that it asks for a password is as it should be.
    pub players_sign: bool,
}

/// Longest that media is waited for, for each transport.
const MEDIA_SECONDS: u32 = 4;
/// A description that takes longer than this is slow for players.
const SLOW_MS: u64 = 3_000;
/// Clocks that differ by more are wrong.
pub(crate) const CLOCK_OFF_S: i64 = 300;

/// Looks at it.
pub async fn survey(target: &Target) -> Survey {
    let mut survey = Survey { url: target.url.clone(), ..Survey::default() };
    if let Err(finding) = look(target, &mut survey).await {
        survey.findings.push(finding);
    }
    survey.findings.sort();
    survey
}

impl Target {
    fn signer(&self) -> Option<Signer> {
        let credentials = self.credentials.clone()?;
        Some(Signer::new(credentials, getrandom::u64().unwrap_or_default()))
    }

    fn finding(&self, severity: Severity, cause: &str, text: String, remedy: &str) -> Finding {
        let (cause, remedy) = (cause.to_owned(), remedy.to_owned());
        Finding { severity, about: self.about.clone(), cause, text, remedy }
    }

    fn wrong(&self, cause: &str, text: impl Into<String>, remedy: &str) -> Finding {
        self.finding(Severity::Error, cause, text.into(), remedy)
    }
}

async fn look(target: &Target, survey: &mut Survey) -> Result<(), Finding> {
    let (url, inside) = client::target(&target.url).map_err(|wrong| failed(target, &wrong))?;
    if inside.is_some() {
        return Err(target.wrong("url", "the URL has a user", "give user and password apart"));
    }
    let began = now();
    let mut client =
        Client::connect(&url, target.signer()).await.map_err(|wrong| failed(target, &wrong))?;
    let greeted = client.ask("OPTIONS", &url, &[], |_, _| {}).await;
    let greeted = greeted.map_err(|wrong| mute(target, &wrong))?;
    let server = greeted.message.header("Server").unwrap_or_default();
    survey.server = server.chars().filter(|letter| !letter.is_control()).take(64).collect();
    let methods = greeted.message.header("Public").unwrap_or_default();
    survey.methods = methods.split(',').map(|it| it.trim().to_owned()).take(32).collect();
    survey.methods.retain(|method| !method.is_empty() && method.len() <= 32);
    if let Some(finding) = greeted.message.header("Date").and_then(|date| clock(target, date)) {
        survey.findings.push(finding);
    }
    if !target.plays {
        survey.asks = scheme(client.challenged.as_deref());
        survey.vendor = vendor(&url, &survey.server, client.challenged.as_deref(), "");
        if greeted.code == 401 {
            return Err(refused(target, &url, 401, "OPTIONS").await);
        }
        return Ok(());
    }
    let accept = [("Accept", "application/sdp")];
    let described = client.ask("DESCRIBE", &url, &accept, |_, _| {}).await;
    survey.asks = scheme(client.challenged.as_deref());
    survey.vendor = vendor(&url, &survey.server, client.challenged.as_deref(), "");
    let described = match described {
        Ok(answer) if (200..300).contains(&answer.code) => answer.message,
        Ok(answer) => return Err(refused(target, &url, answer.code, "DESCRIBE").await),
        Err(ProbeError::Silent(_)) => {
            let text = "it greets, and does not describe its stream within 10 s".to_owned();
            return Err(target.wrong("slow", text, SLOW_REMEDY));
        }
        Err(wrong) => return Err(failed(target, &wrong)),
    };
    survey.described_ms = u64::try_from(now().since(began).as_millis()).unwrap_or(u64::MAX);
    let sdp = String::from_utf8_lossy(&described.body).into_owned();
    survey.vendor = vendor(&url, &survey.server, client.challenged.as_deref(), &sdp);
    let base = described.header("Content-Base").unwrap_or(&url);
    for section in describe::offer(&described.body, base).sections {
        survey.tracks.push(SurveyTrack { kind: section.kind, codec: section.codec });
    }
    if survey.tracks.is_empty() {
        let text = "its description names no track";
        return Err(target.wrong("no-media", text, "is the stream switched on at the camera?"));
    }
    if survey.described_ms > SLOW_MS {
        let text = format!(
            "its description took {} ms; the gateway waits {} s",
            survey.described_ms, target.patience_s
        );
        survey.findings.push(target.finding(Severity::Warning, "slow", text, SLOW_REMEDY));
    }
    if let Some(finding) = codec(target, &survey.tracks) {
        survey.findings.push(finding);
    }
    drop(client);
    media(target, &url, survey).await
}

const SLOW_REMEDY: &str = "load at the camera? a longer limits.answer_timeout_s helps players wait";

/// Whether media comes, one transport after the other.
async fn media(target: &Target, url: &str, survey: &mut Survey) -> Result<(), Finding> {
    let udp = play(target, url, Transport::Udp).await;
    let tcp = play(target, url, Transport::Tcp).await;
    let flows =
        |played: &Result<Report, ProbeError>| played.as_ref().is_ok_and(Report::media_flowed);
    survey.udp = Some(flows(&udp));
    survey.tcp = Some(flows(&tcp));
    match (&udp, &tcp) {
        _ if flows(&udp) && flows(&tcp) => Ok(()),
        _ if flows(&udp) => {
            let text = "it sends over UDP only; players on TCP are served all the same".to_owned();
            let remedy = "nothing to do; `origin_transport = \"udp\"` saves an attempt";
            survey.findings.push(target.finding(Severity::Note, "tcp", text, remedy));
            Ok(())
        }
        (Err(ProbeError::Refused("SETUP", status)), _) if flows(&tcp) && !is_full(status) => {
            let text = format!("it refuses UDP ({})", shown(status));
            let remedy = "`origin_transport = \"tcp\"` in its routes";
            Err(target.finding(Severity::Warning, "udp", text, remedy))
        }
        _ if flows(&tcp) => Err(target.wrong(
            "udp",
            "media does not arrive over UDP; over TCP it does",
            "let UDP through the firewalls between (gateway.media_ports), or `origin_transport = \
             \"tcp\"` in its routes",
        )),
        (Err(ProbeError::Refused(_, status)), _) | (_, Err(ProbeError::Refused(_, status)))
            if is_full(status) =>
        {
            let text = format!("it takes no more sessions ({})", shown(status));
            Err(target.wrong("full", text, "end others at the camera, or set max_sessions"))
        }
        (Err(wrong), Err(_)) => Err(failed(target, wrong)),
        _ => {
            let text = "it plays and sends nothing on some track, neither over UDP nor TCP";
            Err(target.wrong("no-media", text, "does the camera show a picture in its own page?"))
        }
    }
}

async fn play(target: &Target, url: &str, transport: Transport) -> Result<Report, ProbeError> {
    let options =
        Options { url: url.to_owned(), transport, seconds: MEDIA_SECONDS, ports: target.ports };
    let until = play::Until::Media;
    play::run_signed(options, target.signer(), until, &mut |_| {}).await
}

fn is_full(status: &str) -> bool {
    matches!(status.split(' ').nth(1), Some("453" | "503"))
}

/// What a refusal means.
async fn refused(target: &Target, url: &str, code: u16, what: &str) -> Finding {
    let user = target.credentials.as_ref().map(|known| known.user.as_str());
    match (code, user) {
        (401, None) if target.players_sign => target.finding(
            Severity::Note,
            "password",
            "it asks players for a password of their own, so nothing was played".to_owned(),
            "`edgeweir probe rtsp://USER:PASSWORD@…` plays it as one of them",
        ),
        (401, None) => target.wrong(
            "password",
            "it asks for a user and a password (401)",
            "store them with `edgeweir config secret NAME` and name them in `credentials`",
        ),
        (401, Some(user)) => target.wrong(
            "password",
            format!("it refuses user {user:?} (401)"),
            "the password may have changed: `edgeweir config secret NAME`; five wrong ones may \
             lock the account for some minutes",
        ),
        (403, _) => target.wrong(
            "forbidden",
            "it forbids this (403)",
            "has the user the right to view, and this address the right to connect?",
        ),
        (404, _) => {
            // Without its query the path may be known: then the query is what is wrong.
            let short = url.split('?').next().unwrap_or(url);
            let (cause, text) = if short != url && knows(target, short).await {
                ("query", "it knows the path, and nothing under this query (404)".to_owned())
            } else {
                ("path", format!("it knows no such path (404): {}", path(url)))
            };
            target.wrong(cause, text, "the camera's page or manual names its RTSP path; see `url`")
        }
        (453 | 503, _) => target.wrong(
            "full",
            format!("it takes no more sessions ({code})"),
            "end others at the camera, or set max_sessions",
        ),
        (300..=399, _) => target.wrong(
            "moved",
            format!("it sends elsewhere ({code})"),
            "take the place that it names as `url`, or `redirect = \"follow\"`",
        ),
        _ => {
            target.wrong("refused", format!("it answers {what} with {code}"), "its log may say why")
        }
    }
}

async fn knows(target: &Target, url: &str) -> bool {
    let Ok(mut client) = Client::connect(url, target.signer()).await else { return false };
    let accept = [("Accept", "application/sdp")];
    let asked = client.ask("DESCRIBE", url, &accept, |_, _| {}).await;
    asked.is_ok_and(|answer| (200..300).contains(&answer.code))
}

/// What it means that nothing sensible comes back to a greeting.
fn mute(target: &Target, wrong: &ProbeError) -> Finding {
    match wrong {
        ProbeError::Silent(_) => target.wrong(
            "mute",
            "it takes the connection and does not answer within 10 s",
            "switch the camera off and on again; is another program's port behind this one?",
        ),
        ProbeError::Closed | ProbeError::Lost(_) => target.wrong(
            "mute",
            format!("it ends the connection without an answer ({wrong})"),
            "is this its RTSP port? does it take more connections, and from this address?",
        ),
        _ => failed(target, wrong),
    }
}

/// What it means that there is no connection, or that it broke.
fn failed(target: &Target, wrong: &ProbeError) -> Finding {
    match wrong {
        ProbeError::Name(..) => target.wrong(
            "name",
            wrong.to_string(),
            "mend the name or the name server (/etc/resolv.conf), or write its address in `url`",
        ),
        ProbeError::Connect(host, port, error) if error.kind() == ErrorKind::ConnectionRefused => {
            target.wrong(
                "port",
                format!("{host} is there, and nothing listens at port {port}"),
                "is RTSP switched on at the camera, and at which port? 554 is usual",
            )
        }
        ProbeError::Connect(host, port, error) => target.wrong(
            "off",
            format!("{host} port {port} does not answer ({error})"),
            "is it on, and on this network? `ping` it; a firewall may be between",
        ),
        ProbeError::Wire(_) | ProbeError::NotRtsp(_) => target.wrong(
            "not-rtsp",
            wrong.to_string(),
            "is this its RTSP port? 80 and 8000 are others",
        ),
        ProbeError::Tls | ProbeError::Url => {
            target.wrong("url", wrong.to_string(), "write it as rtsp://HOST[:PORT]/PATH")
        }
        _ => target.wrong("broken", wrong.to_string(), "try again; its log may say why"),
    }
}

/// What follows the host.
fn path(url: &str) -> &str {
    let after = url.get(7..).unwrap_or_default();
    after.find(['/', '?']).and_then(|at| after.get(at..)).unwrap_or("/")
}

/// The status line without its version, for the eye.
fn shown(status: &str) -> String {
    let text = status.split_once(' ').map_or(status, |(_, rest)| rest);
    text.chars().filter(|it| !it.is_control()).take(60).collect()
}

fn scheme(challenge: Option<&str>) -> String {
    let word = challenge.and_then(|text| text.split(' ').next()).unwrap_or_default();
    match word.to_ascii_lowercase().as_str() {
        known @ ("digest" | "basic") => known.to_owned(),
        _ => String::new(),
    }
}

/// Video that many players cannot show.
fn codec(target: &Target, tracks: &[SurveyTrack]) -> Option<Finding> {
    let hard = |track: &&SurveyTrack| {
        track.kind == "video" && !matches!(track.codec.as_str(), "H264" | "JPEG" | "")
    };
    let track = tracks.iter().find(hard)?;
    let text = format!(
        "its pictures are {}, which some players and most browsers cannot show",
        track.codec
    );
    let remedy = "set the camera to H.264 where players stay black";
    Some(target.finding(Severity::Note, "codec", text, remedy))
}

/// Who made it, by what it calls itself and how its paths look.
fn vendor(url: &str, server: &str, challenge: Option<&str>, sdp: &str) -> String {
    let said = [server, challenge.unwrap_or_default(), sdp].join("\n").to_ascii_lowercase();
    let path = path(url).to_ascii_lowercase();
    const MARKS: [(&str, &[&str], &[&str]); 12] = [
        ("Hikvision", &["hikvision", "hik-connect", "ds-2"], &["/streaming/channels", "/ish264"]),
        ("Dahua or Amcrest", &["dahua", "amcrest", "login to "], &["/cam/realmonitor"]),
        ("Axis", &["axis"], &["/axis-media/"]),
        ("Reolink", &["reolink"], &["/h264preview_", "/h265preview_", "/preview_"]),
        ("Uniview", &["uniview", "unv "], &["/media/video", "/unicast/c"]),
        ("Hanwha", &["hanwha", "wisenet", "samsung"], &["/profile", "/onvif/profile"]),
        ("Bosch", &["bosch"], &["/rtsp_tunnel"]),
        ("TP-Link", &["tp-link", "tapo", "vigi"], &[]),
        ("Vivotek", &["vivotek"], &[]),
        ("Ubiquiti", &["ubiquiti", "unifi", "ubnt"], &[]),
        ("edgeweir", &["edgeweir"], &[]),
        ("GStreamer", &["gstreamer"], &[]),
    ];
    let known = MARKS.iter().find(|(_, words, _)| words.iter().any(|word| said.contains(word)));
    let known = known
        .or_else(|| MARKS.iter().find(|(_, _, paths)| paths.iter().any(|it| path.starts_with(it))));
    known.map_or_else(String::new, |(name, ..)| (*name).to_owned())
}

/// A clock that differs from ours: recordings and signed URLs get the wrong time.
fn clock(target: &Target, date: &str) -> Option<Finding> {
    let (theirs, ours) = (unix_seconds(date)?, target.unix_s?);
    let off = theirs - ours;
    if off.abs() <= CLOCK_OFF_S {
        return None;
    }
    let span = Duration::from_secs(off.unsigned_abs()).as_secs();
    let span = match span {
        0..7_200 => format!("{} min", span / 60),
        7_200..172_800 => format!("{} h", span / 3600),
        _ => format!("{} days", span / 86_400),
    };
    let side = if off < 0 { "behind" } else { "ahead of" };
    let text = format!("its clock is {span} {side} that of the gateway ({})", shown_date(date));
    Some(target.finding(Severity::Warning, "clock", text, "set its NTP server and time zone"))
}

fn shown_date(date: &str) -> String {
    date.chars().filter(|it| !it.is_control()).take(40).collect()
}

/// `Thu, 26 Nov 2026 10:00:00 GMT`, with or without the day of the week, in seconds since 1970.
pub(crate) fn unix_seconds(date: &str) -> Option<i64> {
    let rest = date.split_once(',').map_or(date, |(_, rest)| rest);
    let mut words = rest.split_whitespace();
    let day: i64 = words.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let name = words.next()?.to_ascii_lowercase();
    let month = i64::try_from(MONTHS.iter().position(|month| name.starts_with(month))?).ok()? + 1;
    let year: i64 = words.next()?.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut time = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    // Days from the first of March 0, as if the year began there: leap days come last.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        years * 365 + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        thread,
    };

    use smol::{
        block_on,
        future::{or, pending},
    };

    use super::*;
    use crate::camera::{self, Camera};

    fn target(url: String) -> Target {
        Target {
            url,
            credentials: None,
            about: "origin cam".to_owned(),
            plays: true,
            patience_s: 10,
            unix_s: Some(1_795_687_200),
            ports: None,
            players_sign: false,
        }
    }

    /// Looks at a synthetic camera.
    fn seen(camera: camera::Options, credentials: Option<Credentials>) -> Survey {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let camera = Camera::bind(camera::Options { listen, ..camera }).unwrap();
        let url = format!("rtsp://{}/cam", camera.local_addr().unwrap());
        let target = Target { credentials, ..target(url) };
        block_on(or(
            async {
                camera.run(pending()).await;
                Survey::default()
            },
            survey(&target),
        ))
    }

    fn causes(survey: &Survey) -> Vec<&str> {
        survey.findings.iter().map(|finding| finding.cause.as_str()).collect()
    }

    /// A server that answers each request with the next of these.
    fn said(answers: Vec<&'static str>, path: &str) -> Survey {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("rtsp://{}{path}", listener.local_addr().unwrap());
        let serve = move |mut stream: TcpStream| {
            let mut request = [0; 4096];
            for answer in answers.clone() {
                let Ok(1..) = stream.read(&mut request) else { return };
                let text = String::from_utf8_lossy(&request).into_owned();
                let uri = text.split(' ').nth(1).unwrap_or_default().to_owned();
                // A path that is known without its query.
                let ok = "RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n";
                let answer =
                    if answer.contains("404") && uri.ends_with("/known") { ok } else { answer };
                let _ = stream.write_all(answer.as_bytes());
            }
            // A mute one holds the connection until the other side goes.
            let _ = stream.read(&mut request);
        };
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                thread::spawn({
                    let serve = serve.clone();
                    move || serve(stream)
                });
            }
        });
        block_on(survey(&target(url)))
    }

    #[test]
    fn a_camera_that_is_well_is_described_and_nothing_is_found() {
        let found = seen(camera::Options { audio: true, ..camera::Options::default() }, None);
        assert_eq!(causes(&found), Vec::<&str>::new(), "{found:?}");
        assert_eq!((found.udp, found.tcp), (Some(true), Some(true)), "{found:?}");
        let codecs: Vec<_> = found.tracks.iter().map(|track| track.codec.as_str()).collect();
        assert_eq!(codecs, ["H264", "PCMU"]);
    }

    #[test]
    fn a_password_that_is_missing_or_wrong_is_named_without_the_password() {
        let locked = || camera::Options {
            digest: Some(("admin".into(), "pw".into())),
            ..Default::default()
        };
        let found = seen(locked(), None);
        assert_eq!((causes(&found), found.asks.as_str()), (vec!["password"], "digest"));
        let found = seen(locked(), Some(Credentials::new("admin", "hunter2")));
        assert_eq!(causes(&found), ["password"]);
        let text = format!("{found:?}");
        assert!(text.contains("admin") && !text.contains("hunter2"), "{text}");
        assert!(causes(&seen(locked(), Some(Credentials::new("admin", "pw")))).is_empty());
    }

    #[test]
    fn a_camera_that_sends_nothing_is_told_from_one_that_is_away() {
        let frozen = camera::Options { freeze_after: Some(Duration::ZERO), ..Default::default() };
        let found = seen(frozen, None);
        assert_eq!(causes(&found), ["no-media"], "{found:?}");
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let away = block_on(survey(&target(format!("rtsp://127.0.0.1:{port}/x"))));
        assert_eq!(causes(&away), ["port"]);
        let name = block_on(survey(&target("rtsp://no-such-camera.invalid/x".to_owned())));
        assert_eq!(causes(&name), ["name"]);
    }

    #[test]
    fn a_camera_that_is_off_is_told_from_a_port_that_is_wrong() {
        let away = |kind: ErrorKind| ProbeError::Connect("h".into(), 554, kind.into());
        for (kind, cause) in [
            (ErrorKind::TimedOut, "off"),
            (ErrorKind::HostUnreachable, "off"),
            (ErrorKind::NetworkUnreachable, "off"),
            (ErrorKind::ConnectionRefused, "port"),
        ] {
            assert_eq!(failed(&target(String::new()), &away(kind)).cause, cause);
        }
    }

    #[test]
    fn players_who_sign_for_themselves_are_no_fault_of_the_camera() {
        let camera = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("rtsp://{}/x", camera.local_addr().unwrap());
        thread::spawn(move || {
            let (mut stream, _) = camera.accept().unwrap();
            while let Ok(1..) = stream.read(&mut [0; 4096]) {
                let told =
                    "RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n";
                let _ = stream.write_all(told.as_bytes());
            }
        });
        let found = block_on(survey(&Target { players_sign: true, ..target(url) }));
        assert_eq!((causes(&found), found.asks.as_str()), (vec!["password"], "basic"));
        assert_eq!(found.findings[0].severity, Severity::Note);
    }

    #[test]
    fn answers_lead_to_the_cause() {
        const OK: &str = "RTSP/1.0 200 OK\r\nPublic: DESCRIBE, PLAY\r\n\r\n";
        const OLD: &str = "RTSP/1.0 200 OK\r\nDate: Thu, 01 Jan 1970 00:10:00 GMT\r\n\r\n";
        for (answers, path, wanted) in [
            (vec![OK, "RTSP/1.0 404 Not Found\r\n\r\n"], "/x", vec!["path"]),
            (vec![OK, "RTSP/1.0 403 Forbidden\r\n\r\n"], "/x", vec!["forbidden"]),
            (vec![OK, "RTSP/1.0 453 Not Enough Bandwidth\r\n\r\n"], "/x", vec!["full"]),
            (vec![OLD, "RTSP/1.0 404 Not Found\r\n\r\n"], "/x", vec!["path", "clock"]),
            (vec![OK, "RTSP/1.0 200 OK\r\n\r\n"], "/x", vec!["no-media"]),
            (vec!["HTTP/1.1 400 Bad Request\r\n\r\n"], "/x", vec!["not-rtsp"]),
        ] {
            let found = said(answers.clone(), path);
            assert_eq!(causes(&found), wanted, "{answers:?}: {found:?}");
        }
    }

    /// A camera that sends over TCP only, and takes its time.
    fn half_deaf(describe_after: Duration) -> Survey {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("rtsp://{}/x", listener.local_addr().unwrap());
        let serve = move |mut stream: TcpStream| {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let cseq = text.split("CSeq: ").nth(1).and_then(|it| it.split('\r').next());
                let head = format!("RTSP/1.0 200 OK\r\nCSeq: {}\r\n", cseq.unwrap_or("0"));
                let sdp = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\n";
                let more = match text.split(' ').next().unwrap() {
                    "DESCRIBE" => {
                        thread::sleep(describe_after);
                        format!("Content-Length: {}\r\n\r\n{sdp}", sdp.len())
                    }
                    "SETUP" => {
                        let wanted = text.split("Transport: ").nth(1).unwrap();
                        let wanted = wanted.split('\r').next().unwrap();
                        let ports = if wanted.contains("TCP") { "" } else { ";server_port=9-10" };
                        format!("Session: 1\r\nTransport: {wanted}{ports}\r\n\r\n")
                    }
                    _ => "\r\n".to_owned(),
                };
                let _ = stream.write_all((head + &more).as_bytes());
                if text.starts_with("PLAY") {
                    // On a UDP session a frame of a channel that nobody set up.
                    let packet = [0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 7];
                    let _ = stream.write_all(&[&[b'$', 0, 0, 13][..], &packet].concat());
                }
            }
        };
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                thread::spawn(move || serve(stream));
            }
        });
        block_on(survey(&target(url)))
    }

    #[test]
    fn media_that_does_not_arrive_over_udp_is_told_from_a_camera_that_sends_none() {
        let found = half_deaf(Duration::ZERO);
        assert_eq!((found.udp, found.tcp), (Some(false), Some(true)), "{found:?}");
        assert_eq!(causes(&found), ["udp", "codec"], "{found:?}");
        assert!(found.findings[0].remedy.contains("origin_transport"), "{found:?}");
    }

    #[test]
    fn a_slow_description_is_a_warning() {
        let found = half_deaf(Duration::from_millis(SLOW_MS + 200));
        assert_eq!(causes(&found), ["udp", "slow", "codec"], "{found:?}");
    }

    #[test]
    fn a_wrong_query_is_told_from_a_wrong_path() {
        let first = "RTSP/1.0 404 Not Found\r\n\r\n";
        let found = said(vec!["RTSP/1.0 200 OK\r\n\r\n", first], "/known?channel=9");
        assert_eq!(causes(&found), ["query"], "{found:?}");
    }

    #[test]
    fn makers_are_known_by_what_they_say_and_by_their_paths() {
        for (url, server, challenge, name) in [
            ("rtsp://h/cam/realmonitor?channel=1", "", None, "Dahua or Amcrest"),
            ("rtsp://h/x", "", Some("Digest realm=\"Login to 4K0\""), "Dahua or Amcrest"),
            ("rtsp://h/Streaming/Channels/101", "", None, "Hikvision"),
            ("rtsp://h/x", "GStreamer RTSP server", Some("Digest realm=\"AXIS_ACCC\""), "Axis"),
            ("rtsp://h/x", "", None, ""),
        ] {
            assert_eq!(vendor(url, server, challenge, ""), name, "{url} {server}");
        }
    }

    #[test]
    fn dates_are_read_as_servers_write_them() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("23 Jan 1997 15:35:06 GMT", Some(854_033_706)),
            ("Thu, Nov 26 2026 10:00:00 GMT", None),
            ("Thu, 29 Feb 2024 12:00:00 GMT", Some(1_709_208_000)),
            ("", None),
            ("Thu, 99 Jan 1970 00:00:00 GMT", None),
        ] {
            assert_eq!(unix_seconds(text), seconds, "{text}");
        }
    }
}
