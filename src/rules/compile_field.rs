//! Rules about rows and fields of a target table, checked against its columns.

use bigdecimal::num_bigint::Sign;
use jiff::civil::Date;
use jiff::{SignedDuration, Span};
use toml::value::Datetime;

use super::compile::{Compiler, Head};
use super::compile_term::{Columns, Sort, one};
use super::normalise::{Change, Nothing};
use super::path::Pattern;
use super::raw::{self, Name};
use super::ruleset::RuleKind;
use super::table::FieldRule;
use super::term::Condition;
use super::tolerate::{Tolerance, to_number};
use crate::event::{Decimal, Timestamp};
use crate::mapping::Spanned;
use crate::mapping::schema::Kind;
use crate::target::TargetTable;

/// Changes by their names in `as`.
const CHANGES: [(&str, Change); 6] = [
    ("trim", Change::Trim),
    ("lower", Change::Lower),
    ("nfc", Change::Nfc),
    ("json", Change::Json),
    ("number", Change::Number),
    ("unsigned_zero", Change::UnsignedZero),
];

impl Compiler<'_> {
    /// A condition over rows of a target table.
    pub(super) fn condition(&mut self, table: TargetTable, raw: &Spanned<raw::Condition>) -> Option<Condition> {
        let def = &self.migration.target_tables()[usize::from(table.0)];
        Columns { table: &def.name, columns: &def.columns }.condition(raw, &mut self.problems)
    }

    /// Fields of a target table, each with the kind of its column.
    pub(super) fn places(&mut self, table: TargetTable, names: &[Name]) -> Vec<(Pattern, Kind)> {
        let def = &self.migration.target_tables()[usize::from(table.0)];
        let columns = Columns { table: &def.name, columns: &def.columns };
        names.iter().filter_map(|name| columns.field(name, &mut self.problems)).collect()
    }

    pub(super) fn scope(&mut self, raw: &raw::Scope) {
        let Some(table) = self.target(&raw.table) else { return };
        let condition = self.condition(table, &raw.filter);
        let rule = self.head(Head {
            kind: RuleKind::Scope,
            table: Some(raw.table.get_ref()),
            fields: &[],
            says: "rows that a condition holds for are ours to judge".to_owned(),
            reason: &raw.reason,
            author: raw.author.as_deref(),
            until: raw.until.as_ref(),
        });
        if let Some(condition) = condition {
            self.rules.tables[usize::from(table.0)].scope.push((rule, condition));
        }
    }

    pub(super) fn retention(&mut self, raw: &raw::Retention) {
        let Some(table) = self.target(&raw.table) else { return };
        let def = &self.migration.target_tables()[usize::from(table.0)];
        let columns = Columns { table: &def.name, columns: &def.columns };
        let time = columns.term_of(&raw.time, Sort::Time, &mut self.problems);
        let cut = match (&raw.before, &raw.older_than) {
            (Some(before), None) => self.point(before),
            (None, Some(age)) => self.days_ago(age),
            _ => {
                let fix = "give exactly one of: before = 2025-01-01T00:00:00Z, older_than = \"90 days\"";
                self.problems.push(raw.table.span(), "the rule does not say which rows may be gone", fix);
                None
            }
        };
        let rule = self.head(Head {
            kind: RuleKind::Retention,
            table: Some(raw.table.get_ref()),
            fields: &[],
            says: match (&raw.before, &raw.older_than) {
                (Some(before), _) => format!("before {}", before.get_ref()),
                (None, age) => format!("older than {}", age.as_ref().map_or("", |age| age.get_ref())),
            },
            reason: &raw.reason,
            author: raw.author.as_deref(),
            until: raw.until.as_ref(),
        });
        if let (Some(time), Some(cut)) = (time, cut) {
            self.rules.tables[usize::from(table.0)].retention.push((rule, time, cut));
        }
    }

    fn point(&mut self, before: &Spanned<Datetime>) -> Option<Timestamp> {
        let point = before.get_ref().to_string().parse::<jiff::Timestamp>().ok();
        let point = point.and_then(|point| Timestamp::from_unix_us(i128::from(point.as_microsecond())));
        if point.is_none() {
            let fix = "write it with its offset, as 2025-01-01T00:00:00Z";
            self.problems.push(before.span(), "this is no point in time", fix);
        }
        point
    }

    fn days_ago(&mut self, age: &Name) -> Option<Timestamp> {
        // Days and weeks alone: a day of the calendar has no hours to take away.
        let span =
            age.get_ref().parse::<Span>().ok().filter(|span| {
                span.fieldwise() == Span::new().weeks(span.get_weeks()).days(span.get_days()).fieldwise()
            });
        let day = span.filter(|span| span.is_positive()).and_then(|span| self.today.checked_sub(span).ok());
        let point = day.and_then(midnight);
        if point.is_none() {
            self.problems.push(age.span(), "this is no number of days", "write it as \"90 days\"");
        }
        point
    }

    pub(super) fn normalise(&mut self, raw: &raw::Normalise, matched: &[TargetTable]) {
        let Some(table) = self.target(&raw.table) else { return };
        let when = self.when(raw.when.as_ref(), table, matched);
        if !one(&[raw.changes.is_some(), raw.floor.is_some(), raw.unify.is_some()]) {
            let fix = "give exactly one of: as = [\"trim\"], floor = \"1 s\", unify = [\"null\", \"empty\"]";
            self.problems.push(raw.table.span(), "the rule does not say what to make alike", fix);
        }
        let mut changes = Vec::new();
        for name in raw.changes.iter().flatten() {
            match CHANGES.iter().find(|(known, _)| *known == name.get_ref()) {
                Some((_, change)) => changes.push(change.clone()),
                None => {
                    let known = CHANGES.iter().map(|(known, _)| *known);
                    self.problems.unknown(name.span(), "change", name.get_ref(), known);
                }
            }
        }
        changes.extend(raw.floor.as_ref().and_then(|floor| self.duration(floor)).map(Change::Floor));
        changes.extend(raw.unify.as_ref().and_then(|forms| self.nothing(forms)).map(Change::Unify));
        let places = self.fields(table, &raw.fields, &raw.table);
        for ((_, kind), name) in places.iter().zip(&raw.fields) {
            for change in &changes {
                if let Some((message, fix)) = misplaced(change, *kind, name.get_ref()) {
                    self.problems.push(name.span(), message, fix);
                }
            }
        }
        let says = match (&raw.changes, &raw.floor, &raw.unify) {
            (Some(names), ..) => names.iter().map(|name| name.get_ref().as_str()).collect::<Vec<_>>().join(", "),
            (_, Some(floor), _) => format!("floor to {}", floor.get_ref()),
            (.., Some(forms)) => {
                let forms: Vec<_> = forms.get_ref().iter().map(|form| form.get_ref().as_str()).collect();
                format!("one nothing: {}", forms.join(", "))
            }
            _ => String::new(),
        };
        let rule = self.head(Head {
            kind: RuleKind::Normalise,
            table: Some(raw.table.get_ref()),
            fields: &raw.fields,
            says,
            reason: &raw.reason,
            author: raw.author.as_deref(),
            until: raw.until.as_ref(),
        });
        let rules =
            places.into_iter().map(|(place, _)| FieldRule { rule, place, when, filter: None, what: changes.clone() });
        self.rules.tables[usize::from(table.0)].normalise.extend(rules);
    }

    pub(super) fn ignore(&mut self, raw: &raw::Ignore, matched: &[TargetTable]) {
        let Some(table) = self.target(&raw.table) else { return };
        let when = self.when(raw.when.as_ref(), table, matched);
        let places = self.fields(table, &raw.fields, &raw.table);
        self.refuse_key(table, &places, &raw.fields, "ignored");
        let filter = raw.filter.as_ref().map(|filter| self.condition(table, filter));
        let rule = self.head(Head {
            kind: RuleKind::Ignore,
            table: Some(raw.table.get_ref()),
            fields: &raw.fields,
            says: "left out".to_owned(),
            reason: &raw.reason,
            author: raw.author.as_deref(),
            until: raw.until.as_ref(),
        });
        let filter = match filter {
            None => None,
            Some(None) => return,
            Some(filter) => filter,
        };
        let rules =
            places.into_iter().map(|(place, _)| FieldRule { rule, place, when, filter: filter.clone(), what: () });
        self.rules.tables[usize::from(table.0)].ignore.extend(rules);
    }

    pub(super) fn tolerate(&mut self, raw: &raw::Tolerate, matched: &[TargetTable]) {
        let Some(table) = self.target(&raw.table) else { return };
        let when = self.when(raw.when.as_ref(), table, matched);
        let (what, says) = match (&raw.absolute, &raw.relative, &raw.window) {
            (Some(limit), None, None) => {
                (self.limit(limit).map(Tolerance::Absolute), format!("within {}", limit.get_ref()))
            }
            (None, Some(part), None) => {
                (self.limit(part).map(Tolerance::Relative), format!("within {} of the larger", part.get_ref()))
            }
            (None, None, Some(window)) => {
                let us = self.duration(window);
                (us.map(|us| Tolerance::Window(i128::from(us))), format!("within {}", window.get_ref()))
            }
            _ => {
                let fix = "give exactly one of: absolute = \"0.01\", relative = \"0.001\", window = \"5 s\"";
                self.problems.push(raw.table.span(), "the rule does not say how far values may be apart", fix);
                (None, String::new())
            }
        };
        let places = self.fields(table, &raw.fields, &raw.table);
        self.refuse_key(table, &places, &raw.fields, "tolerated");
        for ((place, kind), name) in places.iter().zip(&raw.fields).filter(|_| what.is_some()) {
            let fits = match (raw.window.is_some(), kind) {
                (true, kind) => *kind == Kind::Timestamp,
                (false, Kind::Int | Kind::Decimal | Kind::Float) => true,
                (false, Kind::Json | Kind::Native) => !place.steps.is_empty(),
                (false, _) => false,
            };
            if !fits {
                let message = format!("`{}` is {}, which cannot be so far apart", name.get_ref(), kind.word());
                self.problems.push(name.span(), message, "a window is for times, the others for numbers");
            }
        }
        let rule = self.head(Head {
            kind: RuleKind::Tolerate,
            table: Some(raw.table.get_ref()),
            fields: &raw.fields,
            says,
            reason: &raw.reason,
            author: raw.author.as_deref(),
            until: raw.until.as_ref(),
        });
        let Some(what) = what else { return };
        for (place, _) in places {
            let rules = &mut self.rules.tables[usize::from(table.0)];
            let ignored = rules
                .ignore
                .iter()
                .any(|ignore| ignore.filter.is_none() && ignore.when.covers(when) && ignore.place == place);
            if ignored {
                let message = "the field is ignored, so the tolerance would do nothing";
                self.problems.push(raw.table.span(), message, "keep one of the two rules");
            }
            rules.tolerate.push(FieldRule { rule, place, when, filter: None, what: what.clone() });
        }
    }

    fn fields(&mut self, table: TargetTable, names: &[Name], at: &Name) -> Vec<(Pattern, Kind)> {
        if names.is_empty() {
            self.problems.push(at.span(), "the rule names no field", "list at least one in `fields`");
        }
        self.places(table, names)
    }

    /// Rows with one key have the same key: leaving it out of the comparison does nothing.
    fn refuse_key(&mut self, table: TargetTable, places: &[(Pattern, Kind)], names: &[Name], word: &str) {
        for ((place, _), name) in places.iter().zip(names) {
            if self.rules.tables[usize::from(table.0)].key.contains(place) {
                let message =
                    format!("`{}` is in the key, by which rows are paired; it cannot be {word}", name.get_ref());
                self.problems.push(
                    name.span(),
                    message,
                    "a [[match]] pairs rows by something else, and leaves keys out",
                );
            }
        }
    }

    fn limit(&mut self, written: &Name) -> Option<bigdecimal::BigDecimal> {
        let number = Decimal::parse(written.get_ref()).ok().and_then(|number| to_number(&number));
        let number = number.filter(|number| number.sign() == Sign::Plus);
        if number.is_none() {
            self.problems.push(written.span(), "this is no number above zero", "write it as \"0.01\"");
        }
        number
    }

    /// Microseconds of a duration above zero.
    fn duration(&mut self, written: &Name) -> Option<i64> {
        let duration = written.get_ref().parse::<SignedDuration>().ok();
        let us = duration.filter(|duration| duration.subsec_nanos() % 1_000 == 0);
        let us = us.and_then(|duration| i64::try_from(duration.as_micros()).ok()).filter(|us| *us > 0);
        if us.is_none() {
            let fix = "write it as \"1 s\", \"500 ms\", \"10 us\", \"2 h\"; a day is \"24 h\"";
            self.problems.push(written.span(), "this is no duration of whole microseconds", fix);
        }
        us
    }

    fn nothing(&mut self, forms: &Spanned<Vec<Name>>) -> Option<Nothing> {
        let mut nothing = Nothing { absent: false, null: false, empty: false };
        let mut count = 0;
        for form in forms.get_ref() {
            let slot = match form.get_ref().as_str() {
                "absent" => &mut nothing.absent,
                "null" => &mut nothing.null,
                "empty" => &mut nothing.empty,
                other => {
                    self.problems.unknown(form.span(), "form of nothing", other, ["absent", "null", "empty"]);
                    continue;
                }
            };
            count += usize::from(!std::mem::replace(slot, true));
        }
        if count < 2 {
            self.problems.push(forms.span(), "one form alone is what it is", "list at least two that are to be one");
        }
        (count >= 2).then_some(nothing)
    }
}

/// Why a change does nothing, or not what it says, to a field of a kind.
fn misplaced(change: &Change, kind: Kind, name: &str) -> Option<(String, &'static str)> {
    let document = matches!(kind, Kind::Json | Kind::Native);
    let member = document && (kind == Kind::Native || name.contains('.'));
    let (fits, fix) = match change {
        Change::Trim | Change::Lower | Change::Nfc | Change::Json => {
            (kind == Kind::Text || member, "trim, lower, nfc and json are for text")
        }
        Change::Number => {
            (kind == Kind::Decimal, "number is for numeric columns; documents and items compare by value")
        }
        Change::UnsignedZero => (kind == Kind::Float, "unsigned_zero is for real and double precision"),
        Change::Floor(_) => (kind == Kind::Timestamp, "floor is for timestamps"),
        Change::Unify(nothing) if nothing.absent => (member, "a column is never absent: unify null and empty"),
        Change::Unify(_) => (kind == Kind::Text || document, "only text, documents and attributes can be empty"),
    };
    (!fits).then(|| (format!("`{name}` is {}, to which this does nothing", kind.word()), fix))
}

fn midnight(day: Date) -> Option<Timestamp> {
    let point = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Timestamp::from_unix_us(i128::from(point.as_microsecond()))
}
