//! Faults that the comparison itself must find: seeded behind the readers, by class, and opened only after the findings.
//!
//! A canary is a shadow of a row that is there: the same row once more on both sides, under a key of its own, with a fault in
//! what the target's side holds of it. Shadows go through rules, digests, spill and join like any row, and nothing in their
//! records tells them apart; where rows are digested many at once, a row that is shadowed must have the same digests alone
//! ([`Error::Digests`](super::Error::Digests)). Which rows are shadowed, and how, follows from a keyed hash of their keys, so both sides agree
//! without a word. What was planted is written down here; the comparison does not read it. Shadows are counted apart and
//! enter neither counts nor roots. Where a rule pairs rows, whole groups are chosen besides, and [`groups`](super::groups)
//! makes their shadows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::emit::SideOf;
use super::record::KeyDigest;
use crate::event::{Canonical as _, Decimal, Float, Json, Key, Timestamp, Value};
use crate::target::TargetRow;

/// Shadows made of one table, about.
const ROWS_WANTED: u64 = 100;
/// Rows of one table in groups that may be shadowed, about: groups of ten rows come to a hundred.
const GROUP_ROWS_WANTED: u64 = 1_000;

/// A way in which the target's side of a shadow is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Class {
    /// The target lacks the row.
    Dropped,
    /// Nobody expects the row.
    Invented,
    /// The target has the row twice.
    Doubled,
    /// One character of a text.
    Text,
    /// A number by the smallest step of its writing.
    Number,
    /// A time by a microsecond.
    Time,
    /// NULL where a text is empty, or an empty text where there is NULL.
    NullOrEmpty,
    /// A truth value.
    Truth,
    /// One bit of an id or of bytes.
    Bits,
    /// A member of a document.
    Document,
    /// Two cells of one kind change places.
    Swapped,
    /// The target lacks a row of a group whose rows a rule pairs.
    GroupDropped,
    /// The target has one more row in such a group.
    GroupInvented,
    /// A value of a row in such a group.
    GroupValue,
}

/// All classes of faults in rows by their keys, in the order in which they are tried.
pub const CLASSES: [Class; 11] = [
    Class::Dropped,
    Class::Invented,
    Class::Doubled,
    Class::Text,
    Class::Number,
    Class::Time,
    Class::NullOrEmpty,
    Class::Truth,
    Class::Bits,
    Class::Document,
    Class::Swapped,
];
/// Index of the first of [`CLASSES`] that is about values.
pub(super) const VALUES_FROM: usize = 3;
/// All classes of faults in groups whose rows a rule pairs.
pub const GROUP_CLASSES: [Class; 3] = [Class::GroupDropped, Class::GroupInvented, Class::GroupValue];

impl Class {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Class::Dropped => "dropped row",
            Class::Invented => "invented row",
            Class::Doubled => "doubled row",
            Class::Text => "changed character",
            Class::Number => "changed digit",
            Class::Time => "microsecond",
            Class::NullOrEmpty => "NULL and empty",
            Class::Truth => "truth value",
            Class::Bits => "changed bit",
            Class::Document => "changed document",
            Class::Swapped => "swapped cells",
            Class::GroupDropped => "dropped row of a matched group",
            Class::GroupInvented => "invented row of a matched group",
            Class::GroupValue => "changed value in a matched group",
        }
    }

    /// Whether it is about one value, or two.
    pub(super) fn of_value(self) -> bool {
        CLASSES[VALUES_FROM..].contains(&self)
    }

    /// Why a sample may have none.
    pub fn none(self) -> &'static str {
        if GROUP_CLASSES.contains(&self) {
            "no group of the sample could take it"
        } else {
            "no row of the sample has a cell for it"
        }
    }
}

/// What is known of one shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shadow {
    /// The fault; `None` where no class fitted the row, so that both of its sides are equal.
    pub planted: Option<Class>,
    /// Records of the expected side.
    pub expected: u64,
    /// Records of the target's side.
    pub actual: u64,
    /// Whether these are not known as written by rehome.
    pub unowned: bool,
    /// Digest of the expected row.
    pub wanted: Option<[u8; 32]>,
    /// Digests of the target's row, and of what the fault made of it.
    pub there: Option<[[u8; 32]; 2]>,
}

impl Shadow {
    /// Whether the fault, by chance, made of a row that differs just the one that is expected: a counter that is one behind,
    /// as while changes are on their way, and whose last digit was changed. There is nothing to be found then.
    pub fn mended(&self) -> bool {
        let once = self.expected == 1 && self.actual == 1;
        once && self.there.is_some_and(|[row, spoilt]| self.wanted == Some(spoilt) && row != spoilt)
    }

    /// Adds what another worker knows of it.
    pub fn merge(&mut self, other: Shadow) {
        let Shadow { planted, expected, actual, unowned, wanted, there } = other;
        self.planted = self.planted.or(planted);
        self.expected += expected;
        self.actual += actual;
        self.unowned |= unowned;
        self.wanted = self.wanted.or(wanted);
        self.there = self.there.or(there);
    }
}

/// Shadows by table and by the key that they go under.
pub type Shadows = BTreeMap<(u16, KeyDigest), Shadow>;

/// Chooses rows and makes their shadows; each worker writes down what it planted, to be opened after the findings.
pub struct Canaries {
    key: [u8; 32],
    /// By table: rows whose hash is below are shadowed; none where it is zero.
    below: Vec<u64>,
    /// Chooses groups, and names their rows.
    group_key: [u8; 32],
    /// As `below`, of groups.
    groups_below: Vec<u64>,
}

/// Where the fault of a value may be planted.
pub struct Around<'a> {
    /// Whether a column, or an attribute of an item, is compared without tolerance.
    pub exact: &'a dyn Fn(&str) -> bool,
    /// Names of the columns.
    pub columns: &'a [Box<str>],
    /// Whether the row is an item: its last cell is a map of attributes.
    pub item: bool,
    /// Whether the row itself does not say that rehome wrote it.
    pub unowned: bool,
}

impl Canaries {
    /// Canaries for tables of about so many rows; a table of unknown size counts as a small one.
    pub fn new(key: [u8; 32], rows: &[u64]) -> Self {
        let group_key = *blake3::keyed_hash(&key, b"groups").as_bytes();
        Self { key, below: below(rows, ROWS_WANTED), group_key, groups_below: below(rows, GROUP_ROWS_WANTED) }
    }

    /// The same where of each table only about so many rows are judged, so that more of all are chosen; groups are chosen as before.
    #[must_use]
    pub fn judging(self, rows: &[u64]) -> Self {
        Self { below: below(rows, ROWS_WANTED), ..self }
    }

    /// No canaries.
    pub fn none(tables: usize) -> Self {
        Self { key: [0; 32], below: vec![0; tables], group_key: [0; 32], groups_below: vec![0; tables] }
    }

    /// The name of a group, if it is one of the chosen: alike on both sides, which have alike what the
    /// rule groups by.
    pub fn of_group(&self, table: u16, by: impl FnOnce() -> Option<Vec<Value>>) -> Option<KeyDigest> {
        let below = self.groups_below.get(usize::from(table)).copied().filter(|below| *below > 0)?;
        // Most tables have no such rule, which is told before anything is hashed.
        let by = Key(by()?).encode();
        let mut hasher = blake3::Hasher::new_keyed(&self.group_key);
        hasher.update(&table.to_le_bytes());
        hasher.update(&by);
        let hash = *hasher.finalize().as_bytes();
        if number(&hash) > below {
            return None;
        }
        hash[16..].try_into().ok()
    }

    /// Sets the groups of shadows apart from those of rows. One for all: by what a rule groups, they are apart from each other.
    pub fn group_salt(&self) -> KeyDigest {
        let mut salt = KeyDigest::default();
        blake3::Hasher::new_keyed(&self.group_key).update(b"salt").finalize_xof().fill(&mut salt);
        salt
    }

    /// The key of a row in the shadow of a group, which no row of either side has.
    pub fn key_in_group(&self, group: &KeyDigest, side: SideOf, place: usize) -> KeyDigest {
        let mut hasher = blake3::Hasher::new_keyed(&self.group_key);
        hasher.update(group);
        hasher.update(&[u8::from(side == SideOf::Actual)]);
        hasher.update(&place.to_le_bytes());
        let mut key = KeyDigest::default();
        hasher.finalize_xof().fill(&mut key);
        key
    }

    /// What is planted for the row of a key, if it is one of the chosen.
    ///
    /// Every row is asked. A secret odd factor spreads the digests that keys go by (multiply-shift hashing; Dietzfelbinger et
    /// al., *A Reliable Randomized Algorithm for the Closest-Pair Problem*, 1997), and only the chosen are hashed by blake3.
    pub fn choice(&self, table: u16, key: &KeyDigest) -> Option<Choice> {
        let below = self.below.get(usize::from(table)).copied().unwrap_or(0);
        let spread = number(key).wrapping_mul(number(&self.key) | 1);
        if below == 0 || spread > below {
            return None;
        }
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&table.to_le_bytes());
        hasher.update(key);
        let hash = *hasher.finalize().as_bytes();
        let class = usize::try_from(number(&hash[8..]) % CLASSES.len() as u64).unwrap_or(0);
        hash[16..].try_into().ok().map(|shadow| Choice { shadow, class })
    }
}

/// A row that was chosen to be shadowed.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    /// The key of the shadow.
    pub shadow: KeyDigest,
    /// Index of its class.
    class: usize,
}

impl Choice {
    /// Whether the expected side has the shadow; `strict` is the row's digest. What is planted goes to `noted`.
    pub fn of_expected(&self, table: u16, strict: &[u8; 32], noted: &mut Shadows) -> bool {
        let class = CLASSES[self.class];
        if class == Class::Invented {
            return false;
        }
        let noted = noted.entry((table, self.shadow)).or_default();
        noted.expected += 1;
        noted.wanted = Some(*strict);
        if class == Class::Dropped {
            noted.planted = Some(class);
        }
        true
    }

    /// The target's rows of the shadow, to be taken in the row's place. What is planted goes to `noted`.
    pub fn of_actual(&self, row: &TargetRow, around: &Around<'_>, noted: &mut Shadows) -> Vec<TargetRow> {
        let (planted, rows) = match CLASSES[self.class] {
            Class::Dropped => return Vec::new(),
            Class::Invented => (Some(Class::Invented), vec![row.clone()]),
            Class::Doubled => (Some(Class::Doubled), vec![row.clone(), row.clone()]),
            _ => {
                let values = CLASSES[self.class..].iter().chain(&CLASSES[VALUES_FROM..self.class]);
                let wrong = values.copied().find_map(|class| Some((class, spoilt(row, class, around)?)));
                match wrong {
                    Some((class, row)) => (Some(class), vec![row]),
                    None => (None, vec![row.clone()]),
                }
            }
        };
        let noted = noted.entry((row.table.0, self.shadow)).or_default();
        noted.planted = planted;
        noted.actual += rows.len() as u64;
        noted.unowned = around.unowned;
        rows
    }
}

/// Of so many rows of each table about so many are chosen: those whose hash is below what is answered.
fn below(rows: &[u64], wanted: u64) -> Vec<u64> {
    let share = |rows: u64| (u64::MAX / rows).saturating_mul(wanted).max(u64::MAX / 1_000_000);
    rows.iter().map(|rows| if *rows <= wanted { u64::MAX } else { share(*rows) }).collect()
}

/// The number that bytes begin with.
fn number(bytes: &[u8]) -> u64 {
    bytes[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The row with a fault of a class; `None` where it has no cell for it.
pub(super) fn spoilt(row: &TargetRow, class: Class, around: &Around<'_>) -> Option<TargetRow> {
    let mut row = row.clone();
    let mut cells: Vec<&mut Value> = Vec::new();
    for (index, value) in row.values.iter_mut().enumerate() {
        if !around.item {
            cells.extend(around.columns.get(index).is_some_and(|name| (around.exact)(name)).then_some(value));
        } else if let Value::Map(attributes) = value {
            // The keys of an item are in the map as well.
            let attributes = attributes.iter_mut().filter(|(name, _)| (around.exact)(name));
            cells.extend(attributes.map(|(_, value)| value));
        }
    }
    if class == Class::Swapped {
        let kind = |value: &Value| std::mem::discriminant(value);
        for first in 0..cells.len() {
            for second in first + 1..cells.len() {
                // Two writings of one document are no fault.
                if kind(cells[first]) == kind(cells[second]) && cells[first].normalised() != cells[second].normalised()
                {
                    let (left, right) = cells.split_at_mut(second);
                    std::mem::swap(left[first], right[0]);
                    return Some(row);
                }
            }
        }
        return None;
    }
    let done = cells.into_iter().any(|value| match wrong(value, class) {
        Some(other) => {
            *value = other;
            true
        }
        None => false,
    });
    done.then_some(row)
}

/// A value that differs from another by a fault of a class.
fn wrong(value: &Value, class: Class) -> Option<Value> {
    match (class, value) {
        (Class::Text, Value::Text(text)) => {
            let mut characters: Vec<char> = text.chars().collect();
            let last = characters.last_mut()?;
            *last = if *last == 'x' { 'y' } else { 'x' };
            Some(Value::Text(characters.into_iter().collect()))
        }
        (Class::Number, Value::Int(number)) => Some(Value::Int(number ^ 1)),
        (Class::Number, Value::Decimal(number)) => next_digit(number.as_str()).map(Value::Decimal),
        (Class::Number, Value::Float(Float(number))) if number.is_finite() => {
            Some(Value::Float(Float(f64::from_bits(number.to_bits() ^ 1))))
        }
        (Class::Time, Value::Timestamp(time)) => Timestamp::from_unix_us(time.unix_us()? + 1).map(Value::Timestamp),
        (Class::NullOrEmpty, Value::Null) => Some(Value::text("")),
        (Class::NullOrEmpty, Value::Text(text)) if text.is_empty() => Some(Value::Null),
        (Class::Truth, Value::Bool(truth)) => Some(Value::Bool(!truth)),
        (Class::Bits, Value::Uuid(id)) => Some(Value::Uuid(uuid::Uuid::from_u128(id.as_u128() ^ 1))),
        (Class::Bits, Value::Bytes(bytes)) => {
            let mut bytes = bytes.clone();
            *bytes.last_mut()? ^= 1;
            Some(Value::Bytes(bytes))
        }
        (Class::Document, Value::Json(text)) => {
            let mut document = Json::parse(text).ok()?;
            shift(&mut document).then(|| Value::Json(document.to_text().into()))
        }
        (Class::Document, Value::Map(members)) => {
            let (name, member) = members.iter().next()?;
            let mut members = members.clone();
            members.insert(name.clone(), Value::List(vec![member.clone()]));
            Some(Value::Map(members))
        }
        _ => None,
    }
}

/// The number with its last digit changed.
fn next_digit(number: &str) -> Option<Decimal> {
    let at = number.bytes().take_while(|byte| !matches!(byte, b'e' | b'E')).count().checked_sub(1)?;
    let digit = number.as_bytes()[at];
    if !digit.is_ascii_digit() {
        return None;
    }
    let other = if digit == b'9' { '8' } else { char::from(digit + 1) };
    Decimal::parse(&format!("{}{other}{}", &number[..at], &number[at + 1..])).ok()
}

/// Changes the first leaf of a document; whether there was one.
fn shift(document: &mut Json) -> bool {
    match document {
        Json::Null => *document = Json::Bool(false),
        Json::Bool(truth) => *truth = !*truth,
        Json::Number(number) => match next_digit(number.as_str()) {
            Some(other) => *number = other,
            None => return false,
        },
        Json::String(text) => text.push('x'),
        Json::Array(items) => return items.iter_mut().any(shift),
        Json::Object(members) => return members.iter_mut().any(|(_, member)| shift(member)),
    }
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::target::TargetTable;

    fn columns() -> Vec<Box<str>> {
        ["id", "text", "more", "number", "amount", "at", "empty", "flag", "document"].map(Box::from).into()
    }

    fn key_of(id: u8) -> KeyDigest {
        let mut key = KeyDigest::default();
        key.copy_from_slice(&blake3::hash(&[id]).as_bytes()[..16]);
        key
    }

    fn row(id: u8) -> TargetRow {
        let values = vec![
            Value::Uuid(uuid::Uuid::from_u128(id.into())),
            Value::text(format!("text {id}")),
            Value::text("more"),
            Value::Int(id.into()),
            Value::Decimal(Decimal::parse("1.50").expect("a number")),
            Value::Timestamp(Timestamp(i64::from(id))),
            Value::Null,
            Value::Bool(true),
            Value::Json("{\"a\": [1]}".into()),
        ];
        TargetRow { table: TargetTable(0), values }
    }

    #[test]
    fn every_class_is_planted_and_every_fault_is_one() {
        let canaries = Canaries::new([3; 32], &[200]);
        let around = Around { exact: &|_| true, columns: &columns(), item: false, unowned: true };
        let (mut both, mut noted) = (0, Shadows::new());
        for id in 0..=255_u8 {
            let key = key_of(id);
            let Some(choice) = canaries.choice(0, &key) else { continue };
            assert_ne!(choice.shadow, key);
            let expected = choice.of_expected(0, &[0; 32], &mut noted);
            let rows = choice.of_actual(&row(id), &around, &mut noted);
            if expected && !rows.is_empty() {
                assert!(rows.len() == 2 || rows[0] != row(id), "a shadow of both sides differs");
                both += 1;
            }
        }
        let classes: BTreeSet<Class> = noted.values().filter_map(|shadow| shadow.planted).collect();
        assert_eq!(classes, CLASSES.into_iter().collect());
        assert!(both > 40 && noted.len() < 256, "some rows of many: {both} of {}", noted.len());
    }

    #[test]
    fn two_writings_of_one_document_do_not_change_places() {
        let around = Around { exact: &|_| true, columns: &columns()[..2], item: false, unowned: true };
        let swapped = |one: &str, other: &str| {
            let values = [one, other].map(|text| Value::Json(text.into())).into();
            spoilt(&TargetRow { table: TargetTable(0), values }, Class::Swapped, &around)
        };
        assert_eq!(swapped("{\"x\": 1}", "{\"x\":1.0}"), None);
        assert!(swapped("{\"x\": 1}", "{\"x\":1.1}").is_some());
    }

    #[test]
    fn what_no_rule_lets_differ_stays_and_a_class_that_fits_no_cell_is_not_planted() {
        let around = Around { exact: &|name| name == "flag", columns: &columns(), item: false, unowned: true };
        let (canaries, mut noted) = (Canaries::new([4; 32], &[1]), Shadows::new());
        for id in 0..100 {
            let choice = canaries.choice(0, &key_of(id)).expect("all of a small table are chosen");
            for row in choice.of_actual(&row(id), &around, &mut noted) {
                let differs: Vec<usize> =
                    (0..9).filter(|index| row.values[*index] != self::row(id).values[*index]).collect();
                assert!(differs.is_empty() || differs == [7]);
            }
        }
        let none = Around { exact: &|_| false, columns: &columns(), item: false, unowned: true };
        noted.clear();
        for id in 0..100 {
            let choice = canaries.choice(0, &key_of(id)).expect("all of a small table are chosen");
            choice.of_actual(&row(id), &none, &mut noted);
        }
        let planted: BTreeSet<Class> = noted.values().filter_map(|shadow| shadow.planted).collect();
        assert_eq!(planted, [Class::Invented, Class::Doubled].into());
    }
}
