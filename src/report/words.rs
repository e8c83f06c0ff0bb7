//! How numbers, classes and equations are said, the same on the page, in Markdown and on a terminal.

use jiff::Timestamp;

use crate::reconcile::{
    Blame, Class, FieldKind, Grade, Kind, RuleKind, Shown, SnapshotUsed, SourceCount, State, Summary, Tally, Verdict,
    Writer,
};

/// One term of an equation: how many, of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// How many.
    pub count: u64,
    /// Of what.
    pub name: String,
    /// How to take it.
    pub tone: Tone,
}

/// How to take a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Known, and let pass.
    Known,
    /// Not proven.
    Open,
    /// Wrong.
    Bad,
}

impl Tone {
    /// Its name, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Tone::Good => "good",
            Tone::Known => "known",
            Tone::Open => "open",
            Tone::Bad => "bad",
        }
    }
}

/// A verdict in one word.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Match => "MATCH",
        Verdict::Mismatch => "MISMATCH",
        Verdict::Incomplete => "INCOMPLETE",
    }
}

/// How sure it is.
pub fn grade(grade: Grade) -> &'static str {
    match grade {
        Grade::Proven => "proven by positions",
        Grade::Observed => "observed between two cuts",
    }
}

/// What a comparison came to, in a sentence.
pub fn headline(summary: &Summary) -> String {
    let sum = |class: Class| summary.targets.iter().map(|target| target.expected.of(class)).sum::<u64>();
    let expected: u64 = summary.targets.iter().map(|target| target.expected.rows).sum();
    let state = |state| summary.details.states.get(&state).copied().unwrap_or_default();
    let (confirmed, unsettled) = (state(State::Confirmed), state(State::Unsettled));
    match summary.verdict {
        Verdict::Match if expected == 0 => {
            "Nothing was expected at the target, and nothing of ours is there.".to_owned()
        }
        Verdict::Match => {
            let mut text = format!("{} expected, and each is as it should be", some(expected, "row", "rows"));
            for (count, words) in [
                (sum(Class::Tolerated), "within a tolerance"),
                (sum(Class::Waived), "by a waiver"),
                (sum(Class::Parked), "parked"),
            ] {
                if count > 0 {
                    text.push_str(&format!(", {} {words}", number(count)));
                }
            }
            text + "."
        }
        // An invariant may be broken although each row is what the mapping makes.
        Verdict::Mismatch if confirmed == 0 => {
            "The two sides differ, although no single row is proven wrong.".to_owned()
        }
        Verdict::Mismatch => {
            let expected = some(expected, "expected row", "expected rows");
            let more = if unsettled > 0 { format!("; {} more unsettled", number(unsettled)) } else { String::new() };
            format!("{} among {expected}{more}.", proven(confirmed))
        }
        Verdict::Incomplete if confirmed > 0 => {
            format!("{}, and something else could not be compared.", proven(confirmed))
        }
        Verdict::Incomplete if unsettled > 0 => {
            format!("{} unsettled, and nothing is proven wrong.", some(unsettled, "row is", "rows are"))
        }
        Verdict::Incomplete => "Not everything could be compared, and nothing is proven wrong.".to_owned(),
    }
}

fn proven(confirmed: u64) -> String {
    some(confirmed, "discrepancy is proven", "discrepancies are proven")
}

/// What became of a legacy table's rows, apart from how many were read.
pub fn source_terms(count: &SourceCount) -> Vec<Term> {
    let mut terms = vec![Term { count: count.mapped, name: "mapped".to_owned(), tone: Tone::Good }];
    if count.lookup > 0 {
        terms.push(Term { count: count.lookup, name: "looked up only".to_owned(), tone: Tone::Good });
    }
    let groups = [
        ("dropped", &count.dropped, Tone::Known),
        ("quarantined", &count.quarantined, Tone::Bad),
        ("waiting", &count.waiting, Tone::Open),
    ];
    for (name, reasons, tone) in groups {
        for (reason, count) in reasons {
            terms.push(Term { count: *count, name: format!("{name}: {}", plain(reason)), tone });
        }
    }
    terms
}

/// What became of one side of a target table, in the order of [`Class::ALL`].
pub fn tally_terms(tally: &Tally) -> Vec<Term> {
    let shown = Class::ALL.iter().filter(|&&class| class == Class::Matched || tally.of(class) > 0);
    shown
        .map(|&class| Term { count: tally.of(class), name: self::class(class).to_owned(), tone: tone(class) })
        .collect()
}

/// Terms as the right side of an equation.
pub fn sum(terms: &[Term]) -> String {
    terms.iter().map(|term| format!("{} {}", number(term.count), term.name)).collect::<Vec<_>>().join(" + ")
}

/// A class in words.
pub fn class(class: Class) -> &'static str {
    match class {
        Class::Matched => "matched",
        Class::Tolerated => "tolerated",
        Class::Changed => "changed",
        Class::Missing => "missing",
        Class::Extra => "extra",
        Class::Duplicate => "duplicate",
        Class::Foreign => "foreign",
        Class::MatchedForeign => "foreign and as expected",
        Class::OutOfScope => "out of scope",
        Class::Expired => "expired",
        Class::Parked => "parked",
        Class::Unmappable => "unmappable",
        Class::RoutedOtherwise => "routed otherwise",
        Class::Unsettled => "unsettled",
        Class::Settled => "settled meanwhile",
        Class::Waived => "waived",
    }
}

/// How to take rows of a class.
fn tone(class: Class) -> Tone {
    match class {
        Class::Matched | Class::MatchedForeign | Class::Settled => Tone::Good,
        Class::Tolerated | Class::OutOfScope | Class::Expired | Class::Waived => Tone::Known,
        Class::Parked | Class::Unsettled => Tone::Open,
        Class::Changed
        | Class::Missing
        | Class::Extra
        | Class::Duplicate
        | Class::Foreign
        | Class::Unmappable
        | Class::RoutedOtherwise => Tone::Bad,
    }
}

/// A kind in words.
pub fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Changed => "changed",
        Kind::Missing => "missing",
        Kind::Extra => "extra",
        Kind::Duplicate => "duplicate",
        Kind::Foreign => "foreign",
        Kind::MatchedForeign => "foreign and as expected",
        Kind::OutOfScope => "out of scope",
        Kind::Expired => "expired",
        Kind::Parked => "parked",
        Kind::Unmappable => "unmappable",
        Kind::RoutedOtherwise => "routed otherwise",
    }
}

/// A state in words.
pub fn state(state: State) -> &'static str {
    match state {
        State::Confirmed => "confirmed",
        State::Unsettled => "unsettled",
        State::Waived => "waived",
        State::Parked => "parked",
    }
}

/// Where it went wrong, in words.
pub fn blame(blame: Blame) -> &'static str {
    match blame {
        Blame::NotCaptured => "not captured: the log does not tell what the source holds",
        Blame::NotApplied => "not applied: the log tells it, and the target does not hold it",
        Blame::Parked => "parked: its part waits for a decision",
        Blame::Foreign => "foreign: someone else wrote the row",
        Blame::MappingChanged => "mapping changed: another mapping wrote the row",
        Blame::Router => "router: the legacy rows belong elsewhere than it says",
        Blame::Unknown => "not known where it went wrong",
    }
}

/// Who wrote a row, in words.
pub fn writer(writer: Writer) -> &'static str {
    match writer {
        Writer::Rehome => "written by rehome",
        Writer::Foreign => "written by someone else",
        Writer::Unknown => "writer unknown",
    }
}

/// A kind of rule in words.
pub fn rule(kind: RuleKind) -> &'static str {
    match kind {
        RuleKind::Normalise => "normalise",
        RuleKind::Tolerate => "tolerate",
        RuleKind::Ignore => "ignore",
        RuleKind::Match => "match",
        RuleKind::Expect => "expect",
        RuleKind::Scope => "scope",
        RuleKind::Retain => "retention",
        RuleKind::Waive => "waive",
    }
}

/// How a field differs, in words.
pub fn field(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Changed => "changed",
        FieldKind::Missing => "missing",
        FieldKind::Extra => "extra",
    }
}

/// A value in words; nothing for none.
pub fn shown(value: Option<&Shown>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(Shown::Value(text)) => text.clone(),
        Some(Shown::Redacted { kind, length }) => format!("{kind} of length {}", number(*length)),
    }
}

/// How many of something.
pub fn some(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// How long something has been there.
pub fn age(nights: u32) -> String {
    match nights {
        0 => "new".to_owned(),
        nights => format!("seen {} before", some(nights.into(), "night", "nights")),
    }
}

/// A number with its digits in groups of three.
pub fn number(count: u64) -> String {
    let digits = count.to_string();
    let first = (digits.len() - 1) % 3 + 1;
    let (head, rest) = digits.split_at(first);
    let mut text = head.to_owned();
    for group in rest.as_bytes().chunks(3) {
        text.push(',');
        text.extend(group.iter().copied().map(char::from));
    }
    text
}

/// A number of bytes in the largest unit of which there is one, with three digits.
pub fn bytes(count: u64) -> String {
    let mut unit = 0;
    let mut size = count;
    let mut rest = 0;
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    while size >= 1_024 {
        (size, rest, unit) = (size / 1_024, size % 1_024, unit + 1);
    }
    match (unit, size) {
        (0, _) | (_, 100..) => format!("{size} {}", UNITS[unit]),
        (_, 10..) => format!("{size}.{} {}", rest * 10 / 1_024, UNITS[unit]),
        _ => format!("{size}.{:02} {}", rest * 100 / 1_024, UNITS[unit]),
    }
}

/// A number of seconds in the two largest units.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// What was read under a snapshot before the comparison was interrupted; nothing for one that it goes on under.
pub fn earlier(snapshot: &SnapshotUsed) -> String {
    match snapshot.earlier_ranges {
        0 => String::new(),
        ranges => format!(", {} read before it was interrupted", some(ranges, "range", "ranges")),
    }
}

/// A time to the second.
pub fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// An hour.
pub fn hour(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M").to_string()
}

/// A text that changes neither a terminal's state nor the order in which its characters are read.
pub fn plain(text: &str) -> String {
    let is_plain = |character: char| {
        let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        !character.is_control() && !turns
    };
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            character if is_plain(character) => plain.push(character),
            character => plain.extend(character.escape_default()),
        }
    }
    plain
}

/// The beginning and the end of a text of more than `most` characters, and how many are left out between them.
pub fn clipped(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let (head, tail) = (most - most / 4, most / 4);
    let begin: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(count - tail).collect();
    format!("{begin} … ({} characters left out) … {end}", number((count - head - tail) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_said_for_people() {
        assert_eq!([0, 7, 999, 1_000, 1_234_567].map(number), ["0", "7", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 1_023, 1_024, 1_536, 10 << 20, 123 << 30, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.00 KiB", "1.50 KiB", "10.0 MiB", "123 GiB", "15.9 EiB"]
        );
        assert_eq!([5, 61, 3_661, 90_000].map(duration), ["5 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn a_text_cannot_steer_a_terminal() {
        assert_eq!(plain("a\u{1b}[2Jé\n\u{202e}x"), "a\\u{1b}[2Jé\\n\\u{202e}x");
        assert_eq!(clipped("abcdefgh", 8), "abcdefgh");
        assert_eq!(clipped("abcdefghi", 8), "abcdef … (1 characters left out) … hi");
    }
}
