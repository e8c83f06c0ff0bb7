//! What fills the page, section by section, as texts and widths that the template only places.

use crate::reconcile::{Cause, Discrepancy, RuleUse, Shown, State, StreamPosition, Summary, Verdict, Why};

use super::words::{self, Tone, bytes, clipped, number, plain};

/// Characters of a key, and of a name, on the page.
pub const KEY_MAX: usize = 400;
/// Characters of a value on the page.
const VALUE_MAX: usize = 2_000;
/// Causes that are seen at once; the rest is folded away.
const CAUSES_UNFOLDED: usize = 10;
/// Fields of a discrepancy on the page.
const FIELDS_MAX: usize = 20;

/// A reason for the verdict.
pub struct Reason {
    /// How many things it concerns.
    pub count: String,
    /// For people.
    pub sentence: String,
    /// For programs.
    pub code: String,
}

/// A number worth knowing first.
pub struct Fact {
    /// What is counted.
    pub name: &'static str,
    /// How many.
    pub number: String,
    /// How to take it.
    pub tone: &'static str,
}

/// A place of the cut.
pub struct Place {
    /// Which part of the cut.
    pub kind: &'static str,
    /// Stream or snapshot.
    pub name: String,
    /// Where in it.
    pub position: String,
}

/// Causes, and how many more there are.
pub struct Causes {
    /// The first ones.
    pub rows: Vec<CauseRow>,
    /// How many of them are seen at once.
    pub unfolded: usize,
    /// How many there are besides.
    pub more: Option<String>,
}

/// A cause.
pub struct CauseRow {
    /// How many discrepancies.
    pub count: String,
    /// How to take them.
    pub tone: &'static str,
    /// Kind and state.
    pub what: String,
    /// The target table.
    pub table: String,
    /// The fields that differ; none for whole rows.
    pub fields: Vec<String>,
    /// Where it went wrong.
    pub blame: &'static str,
    /// Writer, mapping, hours, rules.
    pub notes: Vec<String>,
}

/// A rule.
pub struct RuleRow {
    /// Its name.
    pub id: String,
    /// What it does.
    pub kind: &'static str,
    /// Table, or table and field.
    pub place: String,
    /// How often it was used.
    pub uses: String,
    /// The largest deviation.
    pub most: Option<String>,
    /// Why it is there.
    pub reason: String,
    /// Who set it up.
    pub author: Option<String>,
    /// Its last day.
    pub until: Option<String>,
}

/// A discrepancy.
pub struct Item {
    /// Stable id.
    pub id: String,
    /// What kind.
    pub kind: &'static str,
    /// How to take it.
    pub tone: &'static str,
    /// What is known.
    pub state: &'static str,
    /// The target table.
    pub table: String,
    /// The key.
    pub key: String,
    /// The unit.
    pub unit: Option<String>,
    /// How long it has been there.
    pub age: String,
    /// First seen.
    pub since: String,
    /// Where it went wrong.
    pub blame: &'static str,
    /// Who wrote the row.
    pub writer: &'static str,
    /// The first fields that differ.
    pub fields: Vec<FieldRow>,
    /// How many more differ.
    pub fields_more: Option<String>,
    /// Positions, by side.
    pub proof: Vec<(&'static str, String)>,
}

/// A field of a discrepancy.
pub struct FieldRow {
    /// Column or path.
    pub name: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub actual: String,
    /// The rule that did not let it pass.
    pub rule: Option<String>,
    /// The texts are values, not words about them.
    pub expected_is_value: bool,
    /// The same of the other.
    pub actual_is_value: bool,
}

/// Tone and mark of a verdict.
pub fn verdict_look(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Match => ("good", "✓"),
        Verdict::Mismatch => ("bad", "✕"),
        Verdict::Incomplete => ("open", "?"),
    }
}

/// Reasons for the verdict.
pub fn why(summary: &Summary) -> Vec<Reason> {
    let reason =
        |why: &Why| Reason { count: number(why.count), sentence: plain(&why.sentence), code: plain(&why.code) };
    summary.why.iter().map(reason).collect()
}

/// The numbers to know first.
pub fn facts(summary: &Summary) -> Vec<Fact> {
    let expected: u64 = summary.targets.iter().map(|target| target.expected.rows).sum();
    let read: u64 = summary.targets.iter().map(|target| target.read.rows).sum();
    let legacy: u64 = summary.sources.iter().map(|source| source.read).sum();
    let state = |state| summary.details.states.get(&state).copied().unwrap_or_default();
    let count = |name, count: u64, tone: Tone| {
        let tone = if count == 0 { "plain" } else { tone.name() };
        Fact { name, number: number(count), tone }
    };
    let plain = |name, count| Fact { name, number: number(count), tone: "plain" };
    vec![
        plain("legacy rows", legacy),
        plain("expected rows", expected),
        plain("target rows", read),
        count("confirmed", state(State::Confirmed), Tone::Bad),
        count("unsettled", state(State::Unsettled), Tone::Open),
        count("waived or parked", state(State::Waived) + state(State::Parked), Tone::Known),
    ]
}

/// Everything that the verdict speaks of.
pub fn places(summary: &Summary) -> Vec<Place> {
    let cut = &summary.cut;
    let mut places = Vec::new();
    let stream = |kind, position: &StreamPosition| Place {
        kind,
        name: clipped(&plain(&position.stream), KEY_MAX),
        position: clipped(&plain(&position.position), KEY_MAX),
    };
    places.extend(cut.sources.iter().map(|position| stream("source", position)));
    for snapshot in &cut.snapshots {
        let position = snapshot.position.as_deref().map(|position| format!("{}, ", plain(position)));
        let position =
            format!("{}{}{}", position.unwrap_or_default(), words::time(snapshot.taken), words::earlier(snapshot));
        places.push(Place { kind: "snapshot", name: clipped(&plain(&snapshot.name), KEY_MAX), position });
    }
    if let Some(log) = cut.log {
        let name = format!("generation {}", log.generation);
        places.push(Place { kind: "log", name, position: format!("offset {}", number(log.offset)) });
    }
    places.extend(cut.targets.iter().map(|position| stream("target", position)));
    places
}

/// The largest causes.
pub fn causes(summary: &Summary, most: usize) -> Causes {
    let rows = summary.causes.iter().take(most).map(cause).collect();
    let more = summary.causes.len().checked_sub(most).filter(|more| *more > 0);
    let more = more.map(|more| words::some(more as u64, "smaller cause is", "smaller causes are"));
    Causes { rows, unfolded: CAUSES_UNFOLDED, more }
}

fn cause(cause: &Cause) -> CauseRow {
    let mut notes = vec![words::writer(cause.writer).to_owned()];
    if let Some(mapping) = cause.mapping {
        notes.push(format!("mapping {mapping}"));
    }
    if let Some(when) = &cause.when {
        let (first, last) = (words::hour(when.first), words::hour(when.last));
        if first == last {
            notes.push(format!("in the hour of {first} UTC"));
        } else {
            let busiest = words::hour(when.busiest);
            notes.push(format!("{first} to {last} UTC, most ({}) in the hour of {busiest}", number(when.count)));
        }
    }
    for rule in &cause.rules {
        notes.push(format!("not let pass by rule {}", plain(rule)));
    }
    let fields = cause.fields.iter().map(|field| match field.as_str() {
        "*" => "various fields".to_owned(),
        field => clipped(&plain(field), KEY_MAX),
    });
    CauseRow {
        count: number(cause.count),
        tone: state_tone(cause.state),
        what: format!("{}, {}", words::kind(cause.kind), words::state(cause.state)),
        table: plain(&cause.table),
        fields: fields.collect(),
        blame: words::blame(cause.blame),
        notes,
    }
}

fn state_tone(state: State) -> &'static str {
    let tone = match state {
        State::Confirmed => Tone::Bad,
        State::Unsettled | State::Parked => Tone::Open,
        State::Waived => Tone::Known,
    };
    tone.name()
}

/// All rules, used or not.
pub fn rules(summary: &Summary) -> Vec<RuleRow> {
    let row = |rule: &RuleUse| RuleRow {
        id: plain(&rule.id),
        kind: words::rule(rule.kind),
        place: match &rule.field {
            Some(field) => format!("{}.{}", plain(&rule.table), plain(field)),
            None => plain(&rule.table),
        },
        uses: number(rule.uses),
        most: rule.deviation_max.as_deref().map(plain),
        reason: plain(&rule.reason),
        author: rule.author.as_deref().map(plain),
        until: rule.expires.map(|day| day.to_string()),
    };
    summary.rules.iter().map(row).collect()
}

/// What it cost, as names and amounts.
pub fn budget(summary: &Summary) -> Vec<(&'static str, String)> {
    let budget = &summary.budget;
    let mut rows = vec![("time", words::duration(summary.seconds)), ("read", bytes(budget.read_bytes))];
    if let Some(units) = budget.read_units {
        rows.push(("read units", number(units)));
    }
    rows.push(("throttled", words::some(budget.throttles, "request", "requests")));
    rows.push(("spilled", bytes(budget.spill_bytes)));
    rows.push(("memory", bytes(budget.memory_bytes)));
    rows.push(("rate", format!("{} rows/s", number(budget.rows_per_second))));
    rows
}

/// A discrepancy as the page shows it.
pub fn item(discrepancy: &Discrepancy) -> Item {
    let fields = discrepancy.fields.iter().take(FIELDS_MAX).map(|field| FieldRow {
        name: clipped(&plain(&field.field), KEY_MAX),
        expected: clipped(&plain(&words::shown(field.expected.as_ref())), VALUE_MAX),
        actual: clipped(&plain(&words::shown(field.actual.as_ref())), VALUE_MAX),
        rule: field.rule.as_deref().map(plain),
        expected_is_value: matches!(field.expected, Some(Shown::Value(_))),
        actual_is_value: matches!(field.actual, Some(Shown::Value(_))),
    });
    let more = discrepancy.fields.len().checked_sub(FIELDS_MAX).filter(|more| *more > 0);
    let proof = &discrepancy.proof;
    let positions = [
        ("source", proof.source.as_deref().map(plain)),
        ("log", proof.log.map(|offset| format!("offset {}", number(offset)))),
        ("target", proof.target.as_deref().map(plain)),
    ];
    Item {
        id: plain(&discrepancy.id),
        kind: words::kind(discrepancy.kind),
        tone: state_tone(discrepancy.state),
        state: words::state(discrepancy.state),
        table: plain(&discrepancy.table),
        key: clipped(&plain(&discrepancy.key), KEY_MAX),
        unit: discrepancy.unit.as_deref().map(|unit| clipped(&plain(unit), KEY_MAX)),
        age: words::age(discrepancy.age_nights),
        since: words::time(discrepancy.first_seen),
        blame: words::blame(discrepancy.blame),
        writer: words::writer(discrepancy.writer),
        fields: fields.collect(),
        fields_more: more.map(|more| words::some(more as u64, "more field", "more fields")),
        proof: positions.into_iter().filter_map(|(side, position)| Some((side, position?))).collect(),
    }
}

/// What of the discrepancies is not on the page, and where it is.
pub fn items_note(summary: &Summary, shown: usize) -> Option<String> {
    let details = &summary.details;
    if details.found == shown as u64 && details.listed == details.found {
        return None;
    }
    let (shown, listed, found) = (number(shown as u64), number(details.listed), number(details.found));
    let mut note = format!("{shown} of {found} are shown here, some of each cause.");
    if details.listed == details.found {
        note.push_str(" discrepancies.jsonl beside this page lists all of them.");
    } else {
        note.push_str(&format!(" discrepancies.jsonl beside this page lists {listed}; all are counted."));
    }
    Some(note)
}

/// Whether something on the page is hidden.
pub fn hidden(sample: &[Discrepancy]) -> bool {
    let mut values =
        sample.iter().flat_map(|discrepancy| &discrepancy.fields).flat_map(|field| [&field.expected, &field.actual]);
    values.any(|value| matches!(value, Some(Shown::Redacted { .. })))
}
