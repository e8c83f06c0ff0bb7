//! What a rule makes alike on both sides before anything is compared.

use unicode_normalization::UnicodeNormalization as _;

use crate::event::{Float, Json, Timestamp, Value};

/// One change that makes values alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// White space at both ends of a text goes, as Unicode has it.
    Trim,
    /// Letters become small ones, as Unicode has it without regard to a language.
    Lower,
    /// Text takes Unicode's form NFC: one writing for each accented letter.
    Nfc,
    /// Text that holds JSON is compared as the document; other text stays.
    Json,
    /// A number is compared by value: `1.10` is `1.1`.
    Number,
    /// `-0.0` is `0.0`.
    UnsignedZero,
    /// A time is cut to a multiple of so many microseconds, towards the past; infinities stay.
    Floor(i64),
    /// The listed forms of nothing are one.
    Unify(Nothing),
}

/// Forms of nothing that are one; at least two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nothing {
    /// The attribute or member is not there.
    pub absent: bool,
    /// NULL, or JSON `null`.
    pub null: bool,
    /// A text, list, map, array or object with nothing in it.
    pub empty: bool,
}

impl Change {
    /// Whether it makes forms of nothing one.
    pub(super) fn unifies(&self) -> bool {
        matches!(self, Self::Unify(_))
    }

    /// Applies it to the value at one place; absent is `None`.
    pub(super) fn apply(&self, value: Option<Value>) -> Option<Value> {
        if let Self::Unify(nothing) = self {
            return nothing.apply(value);
        }
        Some(match (self, value?) {
            (Self::Trim, Value::Text(text)) => Value::text(text.trim()),
            (Self::Lower, Value::Text(text)) => Value::text(text.to_lowercase()),
            (Self::Nfc, Value::Text(text)) => Value::text(text.nfc().collect::<String>()),
            (Self::Json, Value::Text(text)) => match Json::parse(&text) {
                // Kept apart from the text and from an attribute that says the same without being JSON.
                Ok(document) => Value::Json(document.canonical().to_text().into()),
                Err(_) => Value::Text(text),
            },
            (Self::Number, Value::Decimal(number)) => Value::Decimal(number.normalised()),
            (Self::UnsignedZero, Value::Float(float)) if float.0 == 0.0 => Value::Float(Float(0.0)),
            (Self::Floor(us), Value::Timestamp(time)) if time.finite() => {
                Value::Timestamp(Timestamp(time.0.div_euclid(*us).saturating_mul(*us)))
            }
            (_, other) => other,
        })
    }
}

impl Nothing {
    fn apply(self, value: Option<Value>) -> Option<Value> {
        let empty = match &value {
            None => self.absent,
            Some(Value::Null) => self.null,
            Some(Value::Text(text)) => self.empty && text.is_empty(),
            Some(Value::List(items)) => self.empty && items.is_empty(),
            Some(Value::Map(members)) => self.empty && members.is_empty(),
            Some(_) => false,
        };
        match (empty, self.absent) {
            (false, _) => value,
            (true, true) => None,
            (true, false) => Some(Value::Null),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Decimal;

    fn becomes(change: &Change, value: Value) -> Value {
        let once = change.apply(Some(value)).expect("it stays");
        assert_eq!(change.apply(Some(once.clone())), Some(once.clone()), "once is enough");
        once
    }

    #[test]
    fn texts() {
        assert_eq!(becomes(&Change::Trim, Value::text(" \u{a0}a b\n")), Value::text("a b"));
        assert_eq!(becomes(&Change::Lower, Value::text("ÀB")), Value::text("àb"));
        assert_eq!(becomes(&Change::Nfc, Value::text("e\u{301}")), Value::text("é"));
        assert_eq!(becomes(&Change::Json, Value::text(r#"{"b":1.0,"a":[]}"#)), Value::Json(r#"{"a":[],"b":1}"#.into()));
        assert_eq!(becomes(&Change::Json, Value::text("{oops")), Value::text("{oops"));
        assert_eq!(becomes(&Change::Trim, Value::Int(1)), Value::Int(1));
    }

    #[test]
    fn numbers() {
        let decimal = |text| Value::Decimal(Decimal::parse(text).expect("a decimal"));
        assert_eq!(becomes(&Change::Number, decimal("1.10")), decimal("1.1"));
        assert_eq!(becomes(&Change::UnsignedZero, Value::Float(Float(-0.0))), Value::Float(Float(0.0)));
    }

    /// Corpus 24: a floor, on both sides, also before the origin; rounding would flip half-way.
    #[test]
    fn times_are_floored_also_before_the_origin() {
        let at = |us| Value::Timestamp(Timestamp::from_unix_us(us).expect("a time"));
        let second = Change::Floor(1_000_000);
        assert_eq!(becomes(&second, at(1_500_000)), at(1_000_000));
        assert_eq!(becomes(&second, at(1_499_999)), at(1_000_000));
        assert_eq!(becomes(&second, at(-1)), at(-1_000_000));
        assert_eq!(becomes(&second, Value::Timestamp(Timestamp::INFINITY)), Value::Timestamp(Timestamp::INFINITY));
    }

    #[test]
    fn forms_of_nothing_are_one_only_where_listed() {
        let some = |absent, null, empty| Change::Unify(Nothing { absent, null, empty });
        let (null, empty) = (Some(Value::Null), Some(Value::text("")));
        assert_eq!(some(true, true, false).apply(null.clone()), None);
        assert_eq!(some(true, true, false).apply(empty.clone()), empty);
        assert_eq!(some(false, true, true).apply(empty.clone()), null);
        assert_eq!(some(false, true, true).apply(None), None);
        assert_eq!(some(true, false, true).apply(null.clone()), null);
        assert_eq!(some(true, false, true).apply(Some(Value::List(vec![]))), None);
        assert_eq!(some(true, true, true).apply(Some(Value::text(" "))), Some(Value::text(" ")));
    }
}
