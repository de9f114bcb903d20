//! A message read in the plainest way: by other code than the gateway's.

/// A message of RTSP; nothing in it is checked.
pub struct Message<'a> {
    /// Its first line.
    pub start: &'a [u8],
    /// Its other lines, up to the empty one, without their ends.
    pub lines: Vec<&'a [u8]>,
    /// What follows the empty line.
    pub body: &'a [u8],
}

/// The first whole message or frame of a stream, by lines and Content-Length; none: it is not whole.
pub fn first(stream: &[u8]) -> Option<&[u8]> {
    if let [b'$', _, high, low, ..] = stream {
        return stream.get(..4 + usize::from(u16::from_be_bytes([*high, *low])));
    }
    let mut from = 0;
    loop {
        let end = from + stream[from..].iter().position(|byte| *byte == b'\n')? + 1;
        let line = stream[from..end].trim_ascii_end();
        from = end;
        if line.is_empty() {
            break;
        }
    }
    let head = Message::read(&stream[..from]);
    let length = head.header("Content-Length").and_then(|value| text(value).parse().ok());
    stream.get(..from + length.unwrap_or(0))
}

impl<'a> Message<'a> {
    /// Reads one.
    pub fn read(bytes: &'a [u8]) -> Self {
        let (mut lines, mut rest) = (Vec::new(), bytes);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            rest = &rest[end + 1..];
            if line.is_empty() && !lines.is_empty() {
                break;
            }
            lines.push(line);
        }
        let start = if lines.is_empty() { &[] } else { lines.remove(0) };
        Self { start, lines, body: rest }
    }

    /// Words of the first line.
    pub fn word(&self, at: usize) -> &'a [u8] {
        self.start.split(|byte| *byte == b' ').nth(at).unwrap_or_default()
    }

    /// Its status, if it is an answer.
    pub fn status(&self) -> Option<u16> {
        let answer = self.start.starts_with(b"RTSP/");
        answer.then(|| text(self.word(1)).parse().ok()).flatten()
    }

    /// Names and values, as they stand there.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.lines.iter().filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }

    /// The value of the first header of that name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let mut all = self.headers();
        all.find(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// The number that request and answer share.
    pub fn cseq(&self) -> Option<u32> {
        text(self.header("CSeq")?).parse().ok()
    }

    /// The session's id without its parameters.
    pub fn session(&self) -> Option<&'a [u8]> {
        let id = self.header("Session")?.split(|byte| *byte == b';').next()?.trim_ascii();
        (!id.is_empty()).then_some(id)
    }
}

/// Bytes as a person reads them.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
