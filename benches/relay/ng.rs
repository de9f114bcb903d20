//! rtpengine's ng protocol, as much of it as makes it relay one stream: bencode over UDP.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

pub(crate) struct Control {
    socket: UdpSocket,
    cookie: u32,
}

impl Control {
    pub(crate) fn new(at: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
        socket.connect(at).expect("an address");
        Self { socket, cookie: 0 }
    }

    pub(crate) fn ping(&mut self) -> bool {
        self.ask(&[("command", "ping")], &[]).is_some_and(|answer| answer.contains("pong"))
    }

    /// One call whose second party is the player; where the first party (the origin) sends.
    pub(crate) fn call(&mut self, number: usize, player: SocketAddr) -> SocketAddr {
        let id = format!("call{number}");
        let offer = sdp(([127, 0, 0, 1], 9).into());
        let common = [("call-id", id.as_str()), ("from-tag", "origin")];
        let flags = ["trust-address", "asymmetric"];
        let mut words = vec![("command", "offer"), ("sdp", offer.as_str())];
        words.extend(common);
        self.ask(&words, &flags).expect("an answer to the offer");
        let answer = sdp(player);
        let mut words = vec![("command", "answer"), ("sdp", answer.as_str()), ("to-tag", "player")];
        words.extend(common);
        let said = self.ask(&words, &flags).expect("an answer to the answer");
        let line = said.split("m=video ").nth(1).unwrap_or_else(|| panic!("no ports in {said}"));
        let port = line.split(' ').next().and_then(|port| port.parse().ok()).expect("a port");
        ([127, 0, 0, 1], port).into()
    }

    fn ask(&mut self, words: &[(&str, &str)], flags: &[&str]) -> Option<String> {
        self.cookie += 1;
        let mut words = words.to_vec();
        words.sort_unstable();
        let text = |word: &str| format!("{}:{word}", word.len());
        let mut message = format!("{} d", self.cookie);
        for (key, value) in words {
            message += &(text(key) + &text(value));
        }
        if !flags.is_empty() {
            message += &text("flags");
            message += &format!("l{}e", flags.iter().map(|flag| text(flag)).collect::<String>());
        }
        message += "e";
        self.socket.send(message.as_bytes()).ok()?;
        let mut answer = [0; 8192];
        let count = self.socket.recv(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer[..count]).into_owned())
    }
}

fn sdp(at: SocketAddr) -> String {
    let (ip, port) = (at.ip(), at.port());
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=video {port} RTP/AVP 96\r\n\
         a=rtpmap:96 H264/90000\r\na=sendrecv\r\n"
    )
}
