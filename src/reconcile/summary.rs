//! From what a comparison found to its verdict: pure (I5, I8).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::counts::{
    CanaryClass, Class, Cover, Digests, ExpectResult, Hop, LedgerEntry, RuleKind, RuleUse, SourceCount, Tally,
    TargetCount,
};
use super::run::Outcome;
use super::side::{Done, Side, uncovered};
use super::verdict::{
    Budget, Cut, Details, Grade, Ids, LogPosition, Side as SideName, SnapshotUsed, StreamPosition, Summary, VERSION,
    Verdict, Why,
};
use crate::event::{encoding, to_hex};
use crate::mapping::{Migration, SourceTable};
use crate::rules::{self, Ruleset, Uses};

/// Rows of which some are planted with a fault that fits any row: three classes of eleven do, and eight elevenths to the power
/// of this is about 10^-14.
const PLANTED_ROWS_MIN: u64 = 100;

/// What a summary is made of, beside what the comparison found.
pub struct Around<'a> {
    /// The migration.
    pub migration: &'a Migration,
    /// What counts as equal.
    pub rules: &'a Ruleset,
    /// Uses of rules while differences were looked at.
    pub uses: Uses,
    /// Rows by target table and class: expected ones, and those that are there; of differences only.
    pub classes: BTreeMap<(u16, Class), (u64, u64)>,
    /// The source's side.
    pub source: &'a Side,
    /// The target's side.
    pub target: &'a Side,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// How long it took.
    pub seconds: u64,
    /// Largest resident memory, in bytes.
    pub memory_bytes: u64,
    /// How sure it is.
    pub grade: Grade,
    /// Generation of the log, and the offset up to which both sides were judged.
    pub log: Option<(u64, u64)>,
    /// Whether anything moved while both sides were read.
    pub moving: bool,
    /// Whether faults were planted.
    pub planted: bool,
    /// Key of roots.
    pub root_key: [u8; 32],
    /// Read units consumed.
    pub read_units: Option<u64>,
    /// Requests that a store throttled.
    pub throttles: u64,
}

/// What a comparison comes to; causes and details are filled in by whoever writes the discrepancies down.
pub fn summary(around: &Around<'_>, outcome: &Outcome) -> Summary {
    let mut uses = outcome.uses.clone();
    uses.merge(&around.uses);
    let sources = sources(around, outcome);
    let targets = targets(around, outcome);
    let hops = hops(outcome);
    let expects = expects(around, outcome);
    let canaries = canaries(around, outcome);
    let ledger: Vec<LedgerEntry> = [
        ledger(SideName::Source, around.source, &outcome.source_done),
        ledger(SideName::Target, around.target, &outcome.target_done),
    ]
    .concat();
    let mut why = Vec::new();
    let mismatch = mismatches(around, &targets, &expects, &mut why);
    incomplete(around, outcome, (&sources, &targets), &hops, &mut why);
    unfound(around, outcome, &canaries, &ledger, &mut why);
    let verdict = match (mismatch, why.is_empty()) {
        (true, _) => Verdict::Mismatch,
        (false, false) => Verdict::Incomplete,
        (false, true) => Verdict::Match,
    };
    let rows: u64 = ledger.iter().map(|entry| entry.rows).sum();
    let read_bytes = outcome.source_done.iter().chain(&outcome.target_done).map(|done| done.bytes).sum();
    let budget = Budget {
        read_bytes,
        read_units: around.read_units,
        throttles: around.throttles,
        spill_bytes: outcome.spill_bytes,
        memory_bytes: around.memory_bytes,
        rows_per_second: rows / around.seconds.max(1),
    };
    Summary {
        version: VERSION,
        migration: around.migration.name().to_owned(),
        started: around.started,
        finished: around.finished,
        seconds: around.seconds,
        grade: around.grade,
        verdict,
        why,
        cut: cut(around, outcome),
        ids: Ids {
            mapping: to_hex(&around.migration.generation()),
            rules: to_hex(&around.rules.id()),
            encoder: encoding::FORMAT.to_string(),
            key: to_hex(&blake3::keyed_hash(&around.root_key, b"name of the key").as_bytes()[..8]),
        },
        sources,
        targets,
        hops,
        rules: rule_uses(around, &uses, outcome),
        expects,
        canaries,
        ledger,
        causes: Vec::new(),
        budget,
        details: Details::default(),
    }
}

fn cut(around: &Around<'_>, outcome: &Outcome) -> Cut {
    let used = |side, of: &Side| {
        let before = outcome.earlier.iter().filter(|((name, ..), _)| *name == of.name);
        let before = before.map(move |((_, taken, name), ranges)| SnapshotUsed {
            side,
            name: name.clone(),
            position: None,
            taken: *taken,
            earlier_ranges: *ranges,
        });
        let now = SnapshotUsed {
            side,
            name: of.snapshot_name.clone(),
            position: Some(of.position.clone()).filter(|position| !position.is_empty()),
            taken: of.taken,
            earlier_ranges: 0,
        };
        before.chain([now]).collect::<Vec<_>>()
    };
    let at = |of: &Side| -> Vec<StreamPosition> {
        let position = Some(of.position.clone()).filter(|position| !position.is_empty());
        position.map(|position| StreamPosition { stream: "wal".to_owned(), position }).into_iter().collect()
    };
    Cut {
        sources: at(around.source),
        snapshots: [used(SideName::Source, around.source), used(SideName::Target, around.target)].concat(),
        log: around.log.map(|(generation, offset)| LogPosition { generation, offset }),
        targets: at(around.target),
    }
}

fn sources(around: &Around<'_>, outcome: &Outcome) -> Vec<SourceCount> {
    let account = &outcome.source;
    let texts = |reasons: &BTreeMap<Box<str>, u64>| -> BTreeMap<String, u64> {
        reasons.iter().map(|(reason, rows)| (reason.to_string(), *rows)).collect()
    };
    let count = |(index, table): (u16, &super::side::Table)| {
        let source = SourceTable(index);
        let of = |counts: &BTreeMap<SourceTable, u64>| counts.get(&source).copied().unwrap_or(0);
        let unit = account.units.get(&source);
        let mut quarantined = unit.map(|unit| texts(&unit.quarantined)).unwrap_or_default();
        for (reason, rows) in account.quarantined.get(&source).into_iter().flatten() {
            *quarantined.entry(reason.to_string()).or_default() += rows;
        }
        let waiting = Some(of(&account.waiting)).filter(|rows| *rows > 0);
        SourceCount {
            table: table.relation.table.to_string(),
            read: of(&account.read),
            counted: table.counted,
            mapped: unit.map_or(0, |unit| unit.mapped),
            lookup: of(&account.lookup),
            dropped: unit.map(|unit| texts(&unit.dropped)).unwrap_or_default(),
            quarantined,
            waiting: waiting.map(|rows| ("parent".to_owned(), rows)).into_iter().collect(),
            root: None,
        }
    };
    (0..).zip(&around.source.tables).map(count).collect()
}

fn targets(around: &Around<'_>, outcome: &Outcome) -> Vec<TargetCount> {
    let mut targets = Vec::new();
    for (index, ((expected, actual), counts)) in
        outcome.expected.iter().zip(&outcome.actual).zip(&outcome.counts).enumerate()
    {
        let table = &around.target.tables[index];
        let side = |tally: &super::emit::Tally| Tally {
            rows: tally.read,
            classes: BTreeMap::new(),
            root: Some(tally.judged.root(&around.root_key)),
        };
        let mut count = TargetCount {
            table: table.relation.table.to_string(),
            expected: side(expected),
            read: side(actual),
            counted: table.counted,
        };
        let ours = counts.matched.saturating_sub(counts.matched_foreign);
        let pairs = [
            (Class::Matched, ours),
            (Class::MatchedForeign, counts.matched_foreign),
            (Class::Tolerated, counts.tolerated),
        ];
        for (class, rows) in pairs.into_iter().filter(|(_, rows)| *rows > 0) {
            count.expected.add(class, rows);
            count.read.add(class, rows);
        }
        let alone = [
            (&mut count.expected, Class::Expired, counts.expired),
            (&mut count.read, Class::OutOfScope, actual.out_of_scope),
        ];
        for (tally, class, rows) in alone {
            if rows > 0 {
                tally.add(class, rows);
            }
        }
        if expected.out_of_scope > 0 {
            count.expected.add(Class::OutOfScope, expected.out_of_scope);
        }
        for ((_, class), (wanted, there)) in around.classes.iter().filter(|((of, _), _)| usize::from(*of) == index) {
            for (tally, rows) in [(&mut count.expected, *wanted), (&mut count.read, *there)] {
                if rows > 0 {
                    tally.add(*class, rows);
                }
            }
        }
        targets.push(count);
    }
    targets
}

fn hops(outcome: &Outcome) -> Vec<Hop> {
    let hop = |(stage, (wrote, took)): (&&'static str, &(super::sum::Sum, super::sum::Sum))| Hop {
        stage: (*stage).to_owned(),
        table: String::new(),
        rows_in: wrote.count,
        rows_out: took.count,
        digests: if wrote == took { Digests::Equal } else { Digests::Different },
    };
    outcome.hops.iter().map(hop).collect()
}

fn expects(around: &Around<'_>, outcome: &Outcome) -> Vec<ExpectResult> {
    let result = |expect: &rules::Expect| {
        let held = outcome.invariants.get(&expect.id()).cloned().unwrap_or_default();
        let table = expect.target_tables().into_iter().next();
        let table = table.and_then(|table| around.target.tables.get(usize::from(table.0)));
        ExpectResult {
            name: expect.name().to_owned(),
            table: table.map(|table| table.relation.table.to_string()).unwrap_or_default(),
            groups: held.groups,
            holding: held.groups - held.broken,
            broken: held.broken,
            first: held.first.iter().map(|broken| crate::event::key_text(&broken.group)).collect(),
        }
    };
    around.rules.expects().iter().map(result).collect()
}

fn canaries(around: &Around<'_>, outcome: &Outcome) -> Vec<CanaryClass> {
    let class = |((class, table), (planted, found)): (&(super::canary::Class, u16), &(u64, u64))| CanaryClass {
        class: class.name().to_owned(),
        table: around.target.tables[usize::from(*table)].relation.table.to_string(),
        planted: *planted,
        found: *found,
        not_applicable: (*planted == 0).then(|| class.none().to_owned()),
    };
    outcome.recall.iter().map(class).collect()
}

fn ledger(name: SideName, side: &Side, done: &[Done]) -> Vec<LedgerEntry> {
    let gaps = uncovered(side, done);
    let entry = |(index, table): (usize, &super::side::Table)| {
        let read: Vec<&Done> = done.iter().filter(|done| side.ranges[done.range].table == index).collect();
        let whole = !gaps.contains(&index) && read.iter().all(|done| done.rows == done.taken);
        LedgerEntry {
            side: name,
            table: table.relation.table.to_string(),
            snapshot: side.snapshot_name.clone(),
            ranges: read.len() as u64,
            pages: read.iter().map(|done| side.ranges[done.range].pages).sum(),
            cover: if whole { Cover::Complete } else { Cover::Gap },
            rows: read.iter().map(|done| done.rows).sum(),
        }
    };
    side.tables.iter().enumerate().map(entry).collect()
}

fn rule_uses(around: &Around<'_>, uses: &Uses, outcome: &Outcome) -> Vec<RuleUse> {
    let describe = |(index, rule): (u16, &rules::RuleText)| {
        let used = uses.of(rules::RuleId(index));
        // An invariant is used by being asked of groups.
        let asked = outcome.invariants.get(&rules::RuleId(index)).map_or(0, |held| held.groups);
        RuleUse {
            id: index.to_string(),
            kind: kind(rule.kind),
            table: rule.table.as_deref().unwrap_or_default().to_owned(),
            field: (!rule.fields.is_empty()).then(|| rule.fields.join(", ")),
            reason: rule.reason.to_string(),
            author: rule.author.as_deref().map(str::to_owned),
            expires: rule.until,
            uses: used.count + asked,
            deviation_max: used.largest.map(|largest| largest.to_string()),
        }
    };
    (0..).zip(around.rules.describe()).map(describe).collect()
}

fn kind(kind: rules::RuleKind) -> RuleKind {
    match kind {
        rules::RuleKind::Scope => RuleKind::Scope,
        rules::RuleKind::Retention => RuleKind::Retain,
        rules::RuleKind::Normalise => RuleKind::Normalise,
        rules::RuleKind::Ignore => RuleKind::Ignore,
        rules::RuleKind::Match => RuleKind::Match,
        rules::RuleKind::Tolerate => RuleKind::Tolerate,
        rules::RuleKind::Waive => RuleKind::Waive,
        rules::RuleKind::Expect => RuleKind::Expect,
    }
}

/// Differences that are proven; whether there are any.
fn mismatches(around: &Around<'_>, targets: &[TargetCount], expects: &[ExpectResult], why: &mut Vec<Why>) -> bool {
    let before = why.len();
    let kinds = [
        (Class::Missing, "missing", "rows are missing at the target"),
        (Class::Extra, "extra", "rows that rehome wrote are at the target and should not be"),
        (Class::Changed, "changed", "rows differ"),
        (Class::Duplicate, "duplicate", "rows are there more or less often than they should be"),
        (Class::Foreign, "foreign", "rows that someone else wrote are not what should be there"),
        (Class::RoutedOtherwise, "routed_otherwise", "rows belong to other units than the router says"),
    ];
    for (class, code, sentence) in kinds {
        let rows = targets.iter().map(|count| count.expected.of(class).max(count.read.of(class))).sum();
        tell(why, code, sentence, rows);
    }
    if !around.moving && parked_rows(targets) == 0 {
        let broken = expects.iter().map(|expect| expect.broken).sum();
        tell(why, "expect", "groups break an invariant that does not go through the mapping", broken);
    }
    why.len() > before
}

/// Rows of parts that are in quarantine.
fn parked_rows(targets: &[TargetCount]) -> u64 {
    targets.iter().map(|count| count.expected.of(Class::Parked).max(count.read.of(Class::Parked))).sum()
}

/// What could not be compared or proven.
fn incomplete(
    around: &Around<'_>,
    outcome: &Outcome,
    (sources, targets): (&[SourceCount], &[TargetCount]),
    hops: &[Hop],
    why: &mut Vec<Why>,
) {
    let of = |class| targets.iter().map(|count| count.expected.of(class).max(count.read.of(class))).sum::<u64>();
    tell(why, "unsettled", "rows differ while changes are on their way: nothing is proven", of(Class::Unsettled));
    tell(why, "parked", "rows belong to parts that are in quarantine", parked_rows(targets));
    let quarantined = sources.iter().flat_map(|count| count.quarantined.values()).sum();
    tell(why, "unmappable", "legacy rows cannot be mapped, so nothing says what they should be", quarantined);
    let waiting = sources.iter().flat_map(|count| count.waiting.values()).sum();
    tell(why, "waiting", "legacy rows wait for the rows that they refer to", waiting);
    let broken: u64 = outcome.invariants.values().map(|held| held.broken).sum();
    if around.moving {
        tell(why, "expect_moving", "groups break an invariant, and changes were on their way", broken);
    } else if parked_rows(targets) > 0 {
        // Of what the target refused, or two parts want, the source's rows count and the target has none.
        tell(
            why,
            "expect_parked",
            "groups break an invariant, and rows of parked parts are missing in the sums",
            broken,
        );
    }
    let unbalanced = sources.iter().filter(|count| !count.balanced()).count() + usize::from(!outcome.source.balanced());
    tell(why, "conservation", "equations of legacy tables do not hold", unbalanced as u64);
    let unbalanced = targets.iter().filter(|count| !count.balanced()).count();
    tell(why, "conservation", "equations of target tables do not hold", unbalanced as u64);
    let lost = hops.iter().filter(|hop| hop.digests == Digests::Different || hop.rows_in != hop.rows_out).count();
    tell(why, "plumbing", "stages of the comparison gave out something else than went in", lost as u64);
}

/// Faults that were not found, and places that were not read.
fn unfound(
    around: &Around<'_>,
    outcome: &Outcome,
    canaries: &[CanaryClass],
    ledger: &[LedgerEntry],
    why: &mut Vec<Why>,
) {
    let missed = canaries.iter().map(|class| class.planted - class.found).sum();
    tell(why, "canaries", "planted faults were not found by the comparison", missed);
    if !around.planted {
        tell(why, "no_canaries", "no faults were planted, so nothing shows that any would be found", 1);
    } else {
        let none = "tables have many rows and no planted fault, so nothing shows that any would be found in them";
        tell(why, "no_canaries", none, unplanted(outcome));
    }
    let gaps = ledger.iter().filter(|entry| entry.cover == Cover::Gap).count();
    tell(why, "gap", "tables were not read to their end, or a place was read twice", gaps as u64);
}

/// Tables without a planted fault, of those that have rows enough for some on both sides.
fn unplanted(outcome: &Outcome) -> u64 {
    let judged =
        |(expected, actual): (&super::emit::Tally, &super::emit::Tally)| expected.judged.count.min(actual.judged.count);
    let rows = outcome.expected.iter().zip(&outcome.actual).map(judged);
    let planted = |of: u16| outcome.recall.iter().any(|((_, table), (planted, _))| *table == of && *planted > 0);
    (0..).zip(rows).filter(|(table, rows)| *rows >= PLANTED_ROWS_MIN && !planted(*table)).count() as u64
}

fn tell(why: &mut Vec<Why>, code: &str, sentence: &str, count: u64) {
    if count > 0 {
        why.push(Why { code: code.to_owned(), sentence: sentence.to_owned(), count });
    }
}
