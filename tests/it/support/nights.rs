//! Comparisons that never took place, for reports of them.

use std::path::Path;

use jiff::{Timestamp, ToSpan as _};
use rehome::reconcile::{
    Blame, Budget, CanaryClass, Class, Cover, Cut, Details, Digests, Discrepancy, ExpectResult, Field, FieldKind,
    Grade, Hop, Ids, Kind, LedgerEntry, LogPosition, Proof, RuleKind, RuleUse, Shown, Side, Sides, SnapshotUsed,
    SourceCount, State, StreamPosition, Summary, Tally, TargetCount, VERSION, Verdict, Why, Writer, discrepancy_id,
};
use rehome::report::{Contents, Reports, SigningKey, Written};

/// Name of the migration.
pub const MIGRATION: &str = "orders";

/// The begin of a night, counted from the first one.
pub fn begin(night: i64) -> Timestamp {
    let first: Timestamp = "2026-03-01T02:00:00Z".parse().expect("a time");
    first + (24 * night).hours()
}

/// A comparison that found nothing wrong.
pub fn matching(night: i64) -> Summary {
    let started = begin(night);
    let position =
        |stream: &str, position: &str| StreamPosition { stream: stream.to_owned(), position: position.to_owned() };
    let snapshot = |side, name: &str, position: &str| SnapshotUsed {
        side,
        name: name.to_owned(),
        position: Some(position.to_owned()),
        taken: started,
        earlier_ranges: 0,
    };
    Summary {
        version: VERSION,
        migration: MIGRATION.to_owned(),
        started,
        finished: started + 754.seconds(),
        seconds: 754,
        grade: Grade::Proven,
        verdict: Verdict::Match,
        why: Vec::new(),
        cut: Cut {
            sources: vec![position("legacy", "3/A81C0D88")],
            snapshots: vec![
                snapshot(Side::Source, "00000003-0000001B-1", "3/A7FFF000"),
                snapshot(Side::Target, "00000009-00000AA4-1", "0/9C4410"),
            ],
            log: Some(LogPosition { generation: 1_772_000_000_000, offset: 48_211_907 }),
            targets: vec![position("target", "0/9C4410")],
        },
        ids: Ids {
            mapping: "5f0c6c1de2c94b07a3d1".to_owned(),
            rules: "a91b77e4405f2c98be63".to_owned(),
            encoder: "1".to_owned(),
            key: "k-2026-01".to_owned(),
        },
        sources: vec![
            source("legacy_orders", 1_204_332, &[("before 2019", 12_004)], &[]),
            source("legacy_lines", 8_113_902, &[], &[]),
        ],
        targets: vec![
            target("orders", &[(Class::Matched, 1_192_316), (Class::Tolerated, 12)], &[]),
            target("order_lines", &[(Class::Matched, 8_113_902)], &[(Class::OutOfScope, 40)]),
            target("customers", &[(Class::Matched, 77_120)], &[]),
        ],
        hops: ["spill", "join"].iter().map(|stage| hop(stage)).collect(),
        rules: vec![
            rule("money", RuleKind::Tolerate, Some("total"), 12, Some("0.004 EUR")),
            rule("trim", RuleKind::Normalise, Some("note"), 9_731, None),
            rule("old_codes", RuleKind::Ignore, Some("code"), 0, None),
        ],
        expects: vec![expect("lines add up to the total", 1_192_328, 0)],
        canaries: ["changed", "missing", "extra", "swapped columns"].iter().map(|class| canary(class, 8, 8)).collect(),
        ledger: vec![
            ledger(Side::Source, "legacy_orders", Cover::Complete),
            ledger(Side::Target, "orders", Cover::Complete),
        ],
        causes: Vec::new(),
        budget: Budget {
            read_bytes: 2_904_118_771,
            read_units: None,
            throttles: 0,
            spill_bytes: 1_102_331_904,
            memory_bytes: 231_211_008,
            rows_per_second: 24_812,
        },
        details: Details::default(),
    }
}

/// A legacy table whose rows were mapped but for these.
pub fn source(table: &str, read: u64, dropped: &[(&str, u64)], quarantined: &[(&str, u64)]) -> SourceCount {
    let reasons = |reasons: &[(&str, u64)]| reasons.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    let elsewhere: u64 = dropped.iter().chain(quarantined).map(|(_, count)| count).sum();
    SourceCount {
        table: table.to_owned(),
        read,
        counted: Some(read),
        mapped: read - elsewhere,
        dropped: reasons(dropped),
        quarantined: reasons(quarantined),
        root: Some("b1946ac92492d2347c6235b4d2611184".to_owned()),
        ..SourceCount::default()
    }
}

/// A target table of these rows: expected ones by class, and what only the target has.
pub fn target(table: &str, expected: &[(Class, u64)], only_there: &[(Class, u64)]) -> TargetCount {
    let tally = |classes: &[(Class, u64)]| {
        let mut tally = Tally { rows: classes.iter().map(|(_, rows)| rows).sum(), ..Tally::default() };
        classes.iter().for_each(|(class, rows)| tally.add(*class, *rows));
        tally
    };
    let there = expected.iter().filter(|(class, _)| class.pairs()).chain(only_there);
    let read = tally(&there.copied().collect::<Vec<_>>());
    TargetCount { table: table.to_owned(), counted: Some(read.rows), expected: tally(expected), read }
}

fn hop(stage: &str) -> Hop {
    let rows = 1_192_328;
    Hop { stage: stage.to_owned(), table: "orders".to_owned(), rows_in: rows, rows_out: rows, digests: Digests::Equal }
}

/// A rule for a field of `orders`.
pub fn rule(id: &str, kind: RuleKind, field: Option<&str>, uses: u64, most: Option<&str>) -> RuleUse {
    RuleUse {
        id: id.to_owned(),
        kind,
        table: "orders".to_owned(),
        field: field.map(str::to_owned),
        reason: "the old system rounded halves up".to_owned(),
        author: None,
        expires: None,
        uses,
        deviation_max: most.map(str::to_owned),
    }
}

/// An invariant of `orders`.
pub fn expect(name: &str, groups: u64, broken: u64) -> ExpectResult {
    ExpectResult {
        name: name.to_owned(),
        table: "orders".to_owned(),
        groups,
        holding: groups - broken,
        broken,
        first: (0..broken.min(3)).map(|n| format!("order-{n}")).collect(),
    }
}

/// Planted faults in `orders`.
pub fn canary(class: &str, planted: u64, found: u64) -> CanaryClass {
    CanaryClass { class: class.to_owned(), table: "orders".to_owned(), planted, found, not_applicable: None }
}

/// What was read of a table.
pub fn ledger(side: Side, table: &str, cover: Cover) -> LedgerEntry {
    let snapshot = "00000003-0000001B-1".to_owned();
    LedgerEntry { side, table: table.to_owned(), snapshot, ranges: 64, pages: 40_112, cover, rows: 1_204_332 }
}

/// A confirmed discrepancy of one field.
pub fn discrepancy(number: u64) -> Discrepancy {
    let key = format!("order-{number}");
    Discrepancy {
        id: discrepancy_id(Some("u"), "orders", &key, Kind::Changed),
        kind: Kind::Changed,
        table: "orders".to_owned(),
        key,
        unit: Some(format!("customer-{}", number % 97)),
        fields: vec![Field {
            field: "total".to_owned(),
            kind: FieldKind::Changed,
            expected: Some(Shown::Redacted { kind: "numeric".to_owned(), length: 6 }),
            actual: Some(Shown::Redacted { kind: "numeric".to_owned(), length: 5 }),
            rule: Some("money".to_owned()),
        }],
        state: State::Confirmed,
        blame: Blame::NotApplied,
        proof: Proof {
            source: Some("3/A81C0D88".to_owned()),
            log: Some(48_211_907),
            target: Some("0/9C4410".to_owned()),
        },
        mapping: Some(3),
        writer: Writer::Rehome,
        written: Some(begin(0) - ((number % 5) as i64).hours()),
        sides: Sides { expected: Some(format!("e{number}")), actual: Some(format!("a{number}")) },
        first_seen: begin(0),
        age_nights: 0,
    }
}

/// The verdict of these discrepancies: proven ones, or what could not be proven.
pub fn with_verdict(mut summary: Summary, verdict: Verdict, why: &[(&str, &str, u64)]) -> Summary {
    let reason = |(code, sentence, count): &(&str, &str, u64)| Why {
        code: (*code).to_owned(),
        sentence: (*sentence).to_owned(),
        count: *count,
    };
    summary.verdict = verdict;
    summary.why = why.iter().map(reason).collect();
    summary
}

/// Writes a night.
pub fn write(reports: &Path, summary: Summary, found: impl IntoIterator<Item = Discrepancy>) -> Written {
    write_with(reports, summary, found, Contents::Hidden, None)
}

/// Writes a night, with contents or signed.
pub fn write_with(
    reports: &Path,
    summary: Summary,
    found: impl IntoIterator<Item = Discrepancy>,
    contents: Contents,
    key: Option<&SigningKey>,
) -> Written {
    let reports = Reports::new(reports, &summary.migration);
    let mut writing = reports.begin(summary.started, contents).expect("a night begins");
    found.into_iter().for_each(|discrepancy| writing.add(discrepancy).expect("it is written"));
    writing.finish(summary, key).expect("a night ends")
}
