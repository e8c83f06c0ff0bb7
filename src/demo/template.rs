//! Templates: text with placeholders in double braces, evaluated with a seeded generator and a clock that only it moves.
//!
//! A placeholder is a variable's name or a call:
//!
//! | call | gives |
//! |---|---|
//! | `unit`, `other` | key of the unit; key of another unit that exists already |
//! | `number` | number of the unit, from 1, as integer keys are dealt; of a live transaction's unit too |
//! | `serial` | an integer that no other row of the demo has |
//! | `item`, `index` | the item of `each` and the number of the repetition, from 0 |
//! | `null`, `absent` | SQL NULL or JSON null; in a JSON object: the key is left out |
//! | `uuid`, `hex N`, `int A B`, `digits N` | a random UUID, N hexadecimal digits, an integer from A to B, one of N digits |
//! | `pick LIST`, `words A B` | an item of a list; A to B items of the list `words` with spaces between |
//! | `noise N` | N characters that do not compress, so that the server stores the value out of line |
//! | `time`, `later A B` | the unit's clock; the clock after it moved on by A to B microseconds |
//! | `clock FORMAT` | the clock in UTC, in a format of `strftime` (`%Y-%m-%dT%H:%M:%S%.6f`, `%s`) |
//! | `nanos`, `seconds` | the clock as integer nanoseconds, as seconds with six decimals |
//! | `add NAME N` | an integer variable plus N |
//! | `split NAME N` | a list of pieces of N characters of a text variable |
//! | `quote NAME`, `raw NAME` | a variable's text as a JSON string; its text as JSON as it stands |
//! | `text NAME` | a variable's text as text, which matters to an item: there a number is of another type |
//!
//! A string that is one placeholder and nothing else takes its value's kind (a number stays a number in JSON); any other
//! string is text. Tables and arrays are JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::fmt::strtime;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;

use super::value::{Value, json_string};

/// A value of a file: templates, and JSON built of them.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// A string.
    Text(Template),
    /// A number or a boolean, as written.
    Literal(String),
    /// An array.
    List(Vec<Node>),
    /// An object.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Parses the templates of a value.
    pub fn parse(value: &toml::Value) -> Result<Self, String> {
        Ok(match value {
            toml::Value::String(text) => Self::Text(Template::parse(text)?),
            toml::Value::Array(items) => Self::List(items.iter().map(Self::parse).collect::<Result<_, _>>()?),
            toml::Value::Table(table) => Self::Map(parse_table(table)?),
            toml::Value::Datetime(_) => return Err("a date must be written as a string".to_owned()),
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                Self::Literal(value.to_string())
            }
        })
    }

    /// Evaluates it: to text or a placeholder's own value, or to JSON.
    pub fn evaluate(&self, scope: &mut Scope<'_>) -> Result<Value, String> {
        match self {
            Self::Text(template) => template.evaluate(scope),
            Self::Literal(text) => Ok(Value::Json(text.clone())),
            Self::List(items) => {
                let items = items.iter().map(|item| item.evaluate(scope)).collect::<Result<_, _>>()?;
                Ok(Value::List(items))
            }
            Self::Map(entries) => {
                let entry = |(key, node): &(String, Self)| Ok((key.clone(), node.evaluate(scope)?));
                Ok(Value::Map(entries.iter().map(entry).collect::<Result<_, String>>()?))
            }
        }
    }
}

/// Parses the values of a table, in its order.
pub(super) fn parse_table(table: &toml::Table) -> Result<Vec<(String, Node)>, String> {
    table
        .iter()
        .map(|(name, value)| Ok((name.clone(), Node::parse(value).map_err(|problem| format!("`{name}`: {problem}"))?)))
        .collect()
}

/// Text with placeholders.
#[derive(Debug, Clone)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Call(Call),
}

/// What stands between double braces.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Variable(String),
    Null,
    Absent,
    Uuid,
    Hex(usize),
    Int(i64, i64),
    Digits(usize),
    Pick(String),
    Words(i64, i64),
    Noise(usize),
    Time,
    Later(i64, i64),
    Clock(String),
    Serial,
    Nanos,
    Seconds,
    Add(String, i64),
    Split(String, usize),
    Quote(String),
    Raw(String),
    Text(String),
}

impl Call {
    fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |word: &str| word.parse::<i64>().map_err(|_| format!("`{word}` in `{text}` is not an integer"));
        let size = |word: &str| match word.parse::<usize>() {
            Ok(size) if size > 0 => Ok(size),
            _ => Err(format!("`{word}` in `{text}` is not a size above 0")),
        };
        let range = |low: &str, high: &str| match (number(low)?, number(high)?) {
            (low, high) if low <= high => Ok((low, high)),
            _ => Err(format!("the range of `{text}` is empty")),
        };
        Ok(match words[..] {
            ["null"] => Self::Null,
            ["absent"] => Self::Absent,
            ["uuid"] => Self::Uuid,
            ["hex", count] => Self::Hex(size(count)?),
            ["int", low, high] => range(low, high).map(|(low, high)| Self::Int(low, high))?,
            ["digits", count] => Self::Digits(size(count)?),
            ["pick", list] => Self::Pick(list.to_owned()),
            ["words", low, high] => range(low, high).map(|(low, high)| Self::Words(low, high))?,
            ["noise", count] => Self::Noise(size(count)?),
            ["time"] => Self::Time,
            ["later", low, high] => range(low, high).map(|(low, high)| Self::Later(low, high))?,
            ["clock", ..] => Self::Clock(clock_format(text)?),
            ["serial"] => Self::Serial,
            ["nanos"] => Self::Nanos,
            ["seconds"] => Self::Seconds,
            ["add", name, addend] => Self::Add(name.to_owned(), number(addend)?),
            ["split", name, count] => Self::Split(name.to_owned(), size(count)?),
            ["quote", name] => Self::Quote(name.to_owned()),
            ["raw", name] => Self::Raw(name.to_owned()),
            ["text", name] => Self::Text(name.to_owned()),
            [name] => Self::Variable(name.to_owned()),
            _ => return Err(format!("`{text}` is neither a variable nor a known call with its arguments")),
        })
    }

    fn evaluate(&self, scope: &mut Scope<'_>) -> Result<Value, String> {
        Ok(match self {
            Self::Variable(name) => scope.variable(name)?.clone(),
            Self::Null => Value::Null,
            Self::Absent => Value::Absent,
            Self::Uuid => Value::Text(uuid::Builder::from_random_bytes(scope.random.random()).into_uuid().to_string()),
            Self::Hex(count) => Value::Text(scope.characters(b"0123456789abcdef", *count)),
            Self::Int(low, high) => Value::Json(scope.random.random_range(*low..=*high).to_string()),
            Self::Digits(count) => Value::Json(format!("1{}", scope.characters(b"0123456789", count - 1))),
            Self::Pick(list) => Value::Text(scope.pick(list)?),
            Self::Words(low, high) => {
                let count = scope.random.random_range(*low..=*high);
                Value::Text((0..count).map(|_| scope.pick("words")).collect::<Result<Vec<_>, _>>()?.join(" "))
            }
            Self::Noise(count) => Value::Text(scope.characters(NOISE, *count)),
            Self::Time => Value::Text(scope.time()?),
            Self::Later(low, high) => {
                scope.clock_micros += scope.random.random_range(*low..=*high);
                Value::Text(scope.time()?)
            }
            Self::Clock(format) => {
                let text = strtime::format(format, scope.moment()?).map_err(|error| error.to_string())?;
                // An integer is a number in JSON, as epoch seconds are.
                if text.parse::<i64>().is_ok() { Value::Json(text) } else { Value::Text(text) }
            }
            Self::Serial => Value::Json(scope.next_serial()?.to_string()),
            Self::Nanos => Value::Json(format!("{}000", scope.clock_micros)),
            Self::Seconds => {
                let (seconds, micros) = (scope.clock_micros / MICROS, scope.clock_micros % MICROS);
                Value::Json(format!("{seconds}.{micros:06}"))
            }
            Self::Add(name, addend) => {
                let text = scope.variable(name)?.text().into_owned();
                let number: i64 = text.parse().map_err(|_| format!("`{name}` is not an integer"))?;
                Value::Json((number + addend).to_string())
            }
            Self::Split(name, count) => {
                let characters: Vec<char> = scope.variable(name)?.text().chars().collect();
                Value::List(characters.chunks(*count).map(|piece| Value::Text(piece.iter().collect())).collect())
            }
            Self::Quote(name) => Value::Json(json_string(&scope.variable(name)?.text())),
            Self::Raw(name) => Value::Json(scope.variable(name)?.text().into_owned()),
            Self::Text(name) => Value::Text(scope.variable(name)?.text().into_owned()),
        })
    }
}

/// Letters and digits: six bits each, which no compression of the server makes smaller.
const NOISE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Serials of one unit or transaction.
const SERIALS: u64 = 10_000;

/// Microseconds of a second.
const MICROS: i64 = 1_000_000;

impl Template {
    /// Parses text; a missing end of a placeholder and an unknown call are errors.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, behind) =
                after.split_once("}}").ok_or_else(|| format!("`{{{{` without `}}}}` in `{text}`"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Call(Call::parse(inside.trim())?));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// Evaluates it: a single placeholder to its value, anything else to text.
    pub fn evaluate(&self, scope: &mut Scope<'_>) -> Result<Value, String> {
        if let [Part::Call(call)] = &self.0[..] {
            return call.evaluate(scope);
        }
        self.join(scope, |value| value.text().into_owned()).map(Value::Text)
    }

    /// Evaluates it as SQL, in which every placeholder becomes a literal.
    pub fn sql(&self, scope: &mut Scope<'_>) -> Result<String, String> {
        self.join(scope, Value::literal)
    }

    fn join(&self, scope: &mut Scope<'_>, shown: impl Fn(&Value) -> String) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Call(call) => text.push_str(&shown(&call.evaluate(scope)?)),
            }
        }
        Ok(text)
    }
}

/// What templates are evaluated in: one unit's or one transaction's randomness, clock and variables.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    /// Source of everything random.
    pub random: ChaCha8Rng,
    /// The clock, microseconds since 1970.
    pub clock_micros: i64,
    /// Serials begin at this times [`SERIALS`].
    pub number: u64,
    /// Serials given so far.
    pub serials: u64,
    /// Lists of the file.
    pub lists: &'a BTreeMap<String, Vec<String>>,
    /// Variables by name, the built-in ones (`unit`, `other`, `item`, `index`) too.
    pub variables: BTreeMap<String, Value>,
}

impl Scope<'_> {
    /// Evaluates variables in order; each sees the ones before it.
    pub fn assign(&mut self, variables: &[(String, Node)]) -> Result<(), String> {
        for (name, node) in variables {
            let value = node.evaluate(self).map_err(|problem| format!("`{name}`: {problem}"))?;
            self.variables.insert(name.clone(), value);
        }
        Ok(())
    }

    /// A variable's value.
    pub fn variable(&self, name: &str) -> Result<&Value, String> {
        self.variables.get(name).ok_or_else(|| format!("there is no variable `{name}` here"))
    }

    fn pick(&mut self, list: &str) -> Result<String, String> {
        let items = self.lists.get(list).ok_or_else(|| format!("there is no list `{list}`"))?;
        items.choose(&mut self.random).cloned().ok_or_else(|| format!("the list `{list}` is empty"))
    }

    fn characters(&mut self, alphabet: &[u8], count: usize) -> String {
        (0..count).map(|_| char::from(alphabet[self.random.random_range(0..alphabet.len())])).collect()
    }

    fn moment(&self) -> Result<Timestamp, String> {
        Timestamp::from_microsecond(self.clock_micros).map_err(|_| "the clock left its range".to_owned())
    }

    fn time(&self) -> Result<String, String> {
        Ok(format!("{:.6}", self.moment()?))
    }

    fn next_serial(&mut self) -> Result<u64, String> {
        if self.serials == SERIALS {
            return Err(format!("one unit or transaction has no more than {SERIALS} serials"));
        }
        self.serials += 1;
        Ok(self.number * SERIALS + self.serials - 1)
    }
}

/// The format of a `clock` call, which may have spaces in it; a wrong one is found when the file is read.
fn clock_format(call: &str) -> Result<String, String> {
    let format = call.strip_prefix("clock").unwrap_or_default().trim();
    let sample = strtime::format(format, Timestamp::UNIX_EPOCH).map_err(|error| format!("`{call}`: {error}"))?;
    if sample.is_empty() {
        return Err(format!("`{call}` needs a format"));
    }
    Ok(format.to_owned())
}
