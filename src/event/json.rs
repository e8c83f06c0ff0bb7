//! JSON with exact numbers.
//!
//! `serde_json` reads numbers as doubles, or, asked for all digits, treats an object with a magic key as a number; legacy
//! payloads may hold either. This reader keeps every digit as a [`Decimal`], keeps the order of keys, and bounds depth so
//! that a hostile payload is an error rather than a stack overflow. Grammar: RFC 8259.

use super::Decimal;

/// Nesting beyond this is refused: deeper than any payload met, shallow enough for a 2 MiB stack.
pub const DEPTH_MAX: usize = 1_000;

/// A JSON document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number with the digits it was written with.
    Number(Decimal),
    /// A string, escapes resolved.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object, keys in the order written; of a key given twice the last stands, as in `jsonb`.
    Object(Vec<(String, Json)>),
}

/// Why a text is not JSON; positions are byte offsets, contents never appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text breaks the grammar.
    #[error("not JSON at byte {0}")]
    Syntax(usize),
    /// Arrays and objects nest deeper than [`DEPTH_MAX`].
    #[error("JSON nests deeper than {DEPTH_MAX} at byte {0}")]
    TooDeep(usize),
}

impl Json {
    /// Reads one JSON document, with nothing but white space around it.
    ///
    /// # Errors
    /// [`JsonError`] when the text is not JSON or nests too deep.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.space();
        if reader.at == text.len() { Ok(value) } else { Err(JsonError::Syntax(reader.at)) }
    }

    /// The member of an object; `None` for a missing key and for anything that is not an object.
    pub fn member(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The string's text, when this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    /// The elements, when this is an array.
    pub fn as_array(&self) -> Option<&[Json]> {
        match self {
            Json::Array(items) => Some(items),
            _ => None,
        }
    }

    /// Whether both say the same: numbers by value, keys in any order.
    pub fn same(&self, other: &Json) -> bool {
        match (self, other) {
            (Json::Number(a), Json::Number(b)) => a.same_value(b),
            (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
            (Json::Object(a), Json::Object(b)) => {
                a.len() == b.len()
                    && a.iter().all(|(key, value)| other.member(key).is_some_and(|found| value.same(found)))
            }
            _ => self == other,
        }
    }

    /// The one form of everything that is [`same`](Json::same): numbers normalised, keys sorted by bytes.
    #[must_use]
    pub fn canonical(&self) -> Json {
        match self {
            Json::Number(number) => Json::Number(number.normalised()),
            Json::Array(items) => Json::Array(items.iter().map(Json::canonical).collect()),
            Json::Object(members) => {
                let mut members: Vec<_> = members.iter().map(|(key, value)| (key.clone(), value.canonical())).collect();
                members.sort_by(|a, b| a.0.cmp(&b.0));
                Json::Object(members)
            }
            other => other.clone(),
        }
    }

    /// Whether any string or key within holds U+0000, which Postgres cannot store.
    pub fn holds_nul(&self) -> bool {
        match self {
            Json::String(text) => text.contains('\0'),
            Json::Array(items) => items.iter().any(Json::holds_nul),
            Json::Object(members) => members.iter().any(|(key, value)| key.contains('\0') || value.holds_nul()),
            _ => false,
        }
    }

    /// The document as compact text.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(true) => out.push_str("true"),
            Json::Bool(false) => out.push_str("false"),
            Json::Number(number) => out.push_str(number.as_str()),
            Json::String(text) => write_string(text, out),
            Json::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_string(key, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if (control as u32) < 0x20 => {
                write!(out, "\\u{:04x}", control as u32).expect("writing to a string does not fail");
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn fail<T>(&self) -> Result<T, JsonError> {
        Err(JsonError::Syntax(self.at))
    }

    fn expect(&mut self, literal: &str) -> Result<(), JsonError> {
        if self.text.as_bytes()[self.at..].starts_with(literal.as_bytes()) {
            self.at += literal.len();
            Ok(())
        } else {
            self.fail()
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        if depth > DEPTH_MAX {
            return Err(JsonError::TooDeep(self.at));
        }
        self.space();
        match self.peek() {
            Some(b'n') => self.expect("null").map(|()| Json::Null),
            Some(b't') => self.expect("true").map(|()| Json::Bool(true)),
            Some(b'f') => self.expect("false").map(|()| Json::Bool(false)),
            Some(b'"') => self.string().map(Json::String),
            Some(b'[') => self.array(depth),
            Some(b'{') => self.object(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.fail(),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Json::Array(items));
                }
                _ => return self.fail(),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.at += 1;
        let mut members: Vec<(String, Json)> = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(members));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return self.fail();
            }
            let key = self.string()?;
            self.space();
            self.expect(":")?;
            members.push((key, self.value(depth + 1)?));
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Json::Object(keep_last(members)));
                }
                _ => return self.fail(),
            }
        }
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return self.fail(),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Decimal::parse(&self.text[start..self.at]).map(Json::Number).map_err(|_| JsonError::Syntax(start))
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { self.fail() } else { Ok(()) }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let start = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            out.push_str(&self.text[start..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                _ => return self.fail(),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let Some(kind) = self.peek() else { return self.fail() };
        self.at += 1;
        Ok(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(JsonError::Syntax(self.at - 1)),
        })
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let first = self.hex4()?;
        let code = match first {
            0xd800..=0xdbff => {
                self.expect("\\u")?;
                let second = self.hex4()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return self.fail();
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            other => other,
        };
        char::from_u32(code).ok_or(JsonError::Syntax(self.at))
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or(JsonError::Syntax(self.at))?;
        let mut code = 0;
        for digit in digits {
            let value = char::from(*digit).to_digit(16).ok_or(JsonError::Syntax(self.at))?;
            code = code * 16 + value;
        }
        self.at += 4;
        Ok(code)
    }
}

/// Keeps the last member of each key, at the place of its first, without going quadratic on wide objects.
fn keep_last(members: Vec<(String, Json)>) -> Vec<(String, Json)> {
    let mut places = std::collections::HashMap::with_capacity(members.len());
    let mut kept: Vec<(String, Json)> = Vec::with_capacity(members.len());
    for (key, value) in members {
        match places.get(&key) {
            Some(&place) => {
                let slot: &mut (String, Json) = &mut kept[place];
                slot.1 = value;
            }
            None => {
                places.insert(key.clone(), kept.len());
                kept.push((key, value));
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_digit_survives() {
        let text = r#"{"a":9007199254740993,"b":0.10,"c":1E400,"d":[-0,1.5e-3],"$serde_json::private::Number":"1"}"#;
        assert_eq!(Json::parse(text).expect("JSON").to_text(), text);
    }

    #[test]
    fn values_compare_by_value_and_keys_in_any_order() {
        let parse = |text| Json::parse(text).expect("JSON");
        assert!(parse(r#"{"a":1.10,"b":[1]}"#).same(&parse(r#"{"b":[1.0],"a":11e-1}"#)));
        assert!(!parse("9007199254740993").same(&parse("9007199254740992")));
        assert!(!parse(r#"{"a":null}"#).same(&parse("{}")));
        assert_eq!(parse(r#"{"b":1,"a":2,"b":3}"#).to_text(), r#"{"b":3,"a":2}"#);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "{", "[1,]", "01", "1.", "+1", "nul", "\"\u{1}\"", r#""\x""#, r#""\ud800""#, "1 2", "{\"a\"}"]
        {
            assert!(Json::parse(text).is_err(), "{text:?}");
        }
        let deep = "[".repeat(DEPTH_MAX + 2);
        assert!(matches!(Json::parse(&deep), Err(JsonError::TooDeep(_))));
    }

    fn document() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            any::<i64>().prop_map(|number| Json::Number(number.into())),
            any::<String>().prop_map(Json::String),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
                prop::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|map| Json::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn text_reads_back(document in document()) {
            prop_assert_eq!(Json::parse(&document.to_text()), Ok(document));
        }

        #[test]
        fn canonical_keeps_the_meaning(document in document()) {
            let canonical = document.canonical();
            prop_assert!(canonical.same(&document));
            prop_assert_eq!(canonical.canonical(), canonical);
        }
    }
}
