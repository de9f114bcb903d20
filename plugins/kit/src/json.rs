//! JSON (RFC 8259) into a tree, without numbers that have a fraction or an exponent.

/// How deep lists and objects may lie in each other; a guest has a small stack.
const DEPTH_MAX: usize = 8;

/// One JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A text.
    String(String),
    /// A list.
    List(Vec<Value>),
    /// An object, in the order of the text; no key is there twice.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// What it is, for an error message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Integer(_) => "a number",
            Self::String(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// Reads one value and nothing after it.
pub(crate) fn parse(text: &[u8]) -> Result<Value, String> {
    document(text).map_err(|(at, what)| format!("byte {at}: {what}"))
}

/// Where and what. Made into a text once, at the end: at each place it would be most of the code.
type Fault = (usize, &'static str);

fn document(text: &[u8]) -> Result<Value, Fault> {
    let text = core::str::from_utf8(text).map_err(|error| (error.valid_up_to(), "not UTF-8"))?;
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.blank();
    if reader.at < text.len() { Err(reader.error("more after the value")) } else { Ok(value) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, Fault> {
        if depth > DEPTH_MAX {
            return Err(self.error("too deep"));
        }
        self.blank();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => Err(self.error("a value is expected")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        self.at += 1;
        if self.next_is(b'}') {
            return Ok(Value::Object(entries));
        }
        loop {
            self.blank();
            if self.peek() != Some(b'"') {
                return Err(self.error("a key in quotes is expected"));
            }
            let key = self.string()?;
            if entries.iter().any(|(name, _)| *name == key) {
                return Err(self.error("a key for the second time"));
            }
            if !self.next_is(b':') {
                return Err(self.error("`:` is expected"));
            }
            let value = self.value(depth + 1)?;
            entries.push((key, value));
            if self.next_is(b'}') {
                return Ok(Value::Object(entries));
            }
            if !self.next_is(b',') {
                return Err(self.error("`,` or `}` is expected"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut values = Vec::new();
        self.at += 1;
        if self.next_is(b']') {
            return Ok(Value::List(values));
        }
        loop {
            values.push(self.value(depth + 1)?);
            if self.next_is(b']') {
                return Ok(Value::List(values));
            }
            if !self.next_is(b',') {
                return Err(self.error("`,` or `]` is expected"));
            }
        }
    }

    fn number(&mut self) -> Result<Value, Fault> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        let digits = self.text.get(start..self.at).unwrap_or_default();
        let unsigned = digits.trim_start_matches('-');
        if matches!(self.peek(), Some(b'.' | b'e' | b'E'))
            || (unsigned.len() > 1 && unsigned.starts_with('0'))
        {
            return Err(self.error("a whole number is expected"));
        }
        digits
            .parse()
            .map(Value::Integer)
            .map_err(|_| self.error("a number of 64 bits is expected"))
    }

    fn string(&mut self) -> Result<String, Fault> {
        let mut text = String::new();
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let Some(found) = rest.chars().next() else {
                return Err(self.error("a text without end"));
            };
            self.at += found.len_utf8();
            match found {
                '"' => return Ok(text),
                '\\' => text.push(self.escape()?),
                '\0'..='\x1f' => return Err(self.error("a control character in a text")),
                other => text.push(other),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let kind = self.peek();
        self.at += 1;
        Ok(match kind {
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'b') => '\x08',
            Some(b'f') => '\x0c',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.code_point(),
            _ => {
                self.at -= 1;
                return Err(self.error("an unknown escape"));
            }
        })
    }

    fn code_point(&mut self) -> Result<char, Fault> {
        let mut code = self.four_digits()?;
        if (0xd800..0xdc00).contains(&code) {
            if self.text.get(self.at..self.at + 2) != Some("\\u") {
                return Err(self.error("half a surrogate pair"));
            }
            self.at += 2;
            let low = self.four_digits()?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(self.error("half a surrogate pair"));
            }
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        char::from_u32(code).ok_or_else(|| self.error("half a surrogate pair"))
    }

    fn four_digits(&mut self) -> Result<u32, Fault> {
        let digits = self.text.get(self.at..self.at + 4).unwrap_or_default();
        if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(self.error("four hexadecimal digits are expected"));
        }
        self.at += 4;
        u32::from_str_radix(digits, 16)
            .map_err(|_| self.error("four hexadecimal digits are expected"))
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Fault> {
        if !self.text.get(self.at..).unwrap_or_default().starts_with(word) {
            return Err(self.error("a value is expected"));
        }
        self.at += word.len();
        Ok(value)
    }

    /// Takes this byte if it comes next, after blanks.
    fn next_is(&mut self, byte: u8) -> bool {
        self.blank();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn error(&self, what: &'static str) -> Fault {
        (self.at, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_documents() {
        let text =
            r#" {"a": [1, -2, true, null], "b": {"c": "x\n\"\u00e4\ud83d\ude00/"}, "d": []} "#;
        let Value::Object(entries) = parse(text.as_bytes()).unwrap() else { panic!("an object") };
        assert_eq!(entries.len(), 3);
        assert_eq!(
            entries[0].1,
            Value::List(vec![
                Value::Integer(1),
                Value::Integer(-2),
                Value::Bool(true),
                Value::Null
            ])
        );
        assert_eq!(
            entries[1].1,
            Value::Object(vec![("c".to_owned(), Value::String("x\n\"ä😀/".to_owned()))])
        );
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        for (text, error) in [
            ("", "byte 0: a value is expected"),
            ("{", "byte 1: a key in quotes is expected"),
            ("{\"a\"}", "byte 4: `:` is expected"),
            ("{\"a\":1,\"a\":2}", "byte 10: a key for the second time"),
            ("[1 2]", "byte 3: `,` or `]` is expected"),
            ("[1,]", "byte 3: a value is expected"),
            ("1.5", "byte 1: a whole number is expected"),
            ("01", "byte 2: a whole number is expected"),
            ("99999999999999999999", "byte 20: a number of 64 bits is expected"),
            ("-", "byte 1: a number of 64 bits is expected"),
            ("\"a", "byte 2: a text without end"),
            ("\"\\x\"", "byte 2: an unknown escape"),
            ("\"\\ud800\"", "byte 7: half a surrogate pair"),
            ("\"\\u00\"", "byte 3: four hexadecimal digits are expected"),
            ("\"\n\"", "byte 2: a control character in a text"),
            ("true false", "byte 5: more after the value"),
            ("nul", "byte 0: a value is expected"),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(error.to_owned()), "{text}");
        }
        assert_eq!(parse(b"\"\xff\""), Err("byte 1: not UTF-8".to_owned()));
    }

    #[test]
    fn depth_has_a_bound() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(DEPTH_MAX + 1).as_bytes()).is_ok());
        assert!(parse(nested(DEPTH_MAX + 2).as_bytes()).is_err());
    }

    #[test]
    fn every_prefix_is_refused_and_none_panics() {
        let text = "{\"a\":[1,true,null],\"b\":\"\\u00e4\\ud83d\\ude00ä\"}";
        for end in 0..text.len() {
            assert!(parse(&text.as_bytes()[..end]).is_err(), "{end}");
        }
    }
}
