//! Rows that no rule changes are compared as they were read; what comes of them is what comes of those that are looked at one by one.

use rehome::event::{Decimal, Float, Timestamp, Value};
use rehome::reconcile::canary::Canaries;
use rehome::reconcile::run::Outcome;
use rehome::rules::TableRules;

use super::bench::{Bench, Compared, Rows};

/// Rows of every length, with every kind of value that a cell of the tables may have, and some that it may not.
fn row(id: i64) -> Vec<Value> {
    let length = usize::try_from(id * 37 % 1_400).expect("few");
    let note = match id % 9 {
        0 => Value::Null,
        1 => Value::text(""),
        2 => Value::Json(format!("{{\"b\": 1.0, \"a\": \"{id}\"}}").into()),
        3 => Value::text("with \0"),
        _ => Value::text("né".repeat(length / 3)),
    };
    let decimal = |text: &str| Value::Decimal(Decimal::parse(text).expect("a decimal"));
    let amount = match id % 7 {
        0 => Value::Null,
        1 => decimal("NaN"),
        2 => Value::Float(Float(-0.0)),
        3 => Value::Float(Float(-f64::NAN)),
        _ => decimal(&format!("{id}.{}", "10".repeat(length % 30 + 1))),
    };
    vec![Value::Int(id), note, amount, Value::Timestamp(Timestamp(id * 86_400_000_000))]
}

/// As many ways to be wrong as there are.
fn spoilt(rows: &[Vec<Value>]) -> Vec<Vec<Value>> {
    let mut spoilt = Vec::new();
    for (row, at) in rows.iter().zip(0..) {
        match at % 23 {
            3 => {}
            5 => spoilt.extend([row.clone(), row.clone()]),
            7 => spoilt.push(vec![row[0].clone(), Value::text("n another"), row[2].clone(), row[3].clone()]),
            11 => spoilt.push([&[Value::Int(10_000 + at)], &row[1..]].concat()),
            // Another writing of the same document.
            _ => spoilt.push(match &row[1] {
                Value::Json(text) => {
                    let other = text.replace("\"b\": 1.0, ", "").replace('}', ",\"b\":1}");
                    vec![row[0].clone(), Value::Json(other.into()), row[2].clone(), row[3].clone()]
                }
                _ => row.clone(),
            }),
        }
    }
    spoilt
}

/// As many rows on both sides.
fn count(relation: &str) -> String {
    format!(
        "[[expect]]\nname = \"as many\"\nleft = [{{ legacy = \"t\", add = 1 }}]\nis = \"{relation}\"\n\
         right = [{{ target = \"t_new\", add = 1 }}]\nreason = \"r\"\n"
    )
}

async fn compared(rules: &str, in_range: usize, by_the_row: bool) -> Compared {
    let source: Vec<_> = (1..=900).map(row).collect();
    let target = spoilt(&source);
    let form = by_the_row.then_some(TableRules::strict as rehome::reconcile::context::Form);
    let bench = Bench { canaries: Canaries::new([9; 32], &[900]), form, ..Bench::by(rules) };
    let [source, target] = [source, target].map(|rows| Rows { in_range, ..Rows::new(rows) });
    bench.try_compare(source, target).await.expect("it comes to its end")
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_as_they_were_read_come_to_what_rows_one_by_one_come_to() {
    let rules = [
        "",
        "[[scope]]\ntable = \"t_new\"\nwhere = { starts_with = \"n\", of = \".note\" }\nreason = \"r\"\n",
        "[[retention]]\ntable = \"t_new\"\ntime = \".at\"\nbefore = 2001-01-01T00:00:00Z\nreason = \"r\"\n",
        "[[expect]]\nname = \"as many of each\"\nleft = [{ legacy = \"t\", by = [\".note\"], add = 1 }]\nis = \"=\"\n\
         right = [{ target = \"t_new\", by = [\".note\"], add = 1 }]\nreason = \"r\"\n",
        // Of these no column has to be read.
        &count("="),
        &count("<="),
        &count(">="),
        "[[scope]]\ntable = \"t_new\"\nwhere = { absent = \"x\" }\nreason = \"r\"\n",
    ];
    // Batches of a range are cut short by its end, or filled again and again.
    for (rules, in_range) in rules.into_iter().flat_map(|rules| [(rules, 10), (rules, 400)]) {
        let (one, other) = (compared(rules, in_range, false).await, compared(rules, in_range, true).await);
        let (a, b) = (&one.outcome, &other.outcome);
        let none_is_ours = rules.contains("absent");
        assert!(a.differences.len() > 3 || none_is_ours, "{:?}", a.differences);
        assert_eq!(a.expected[0].judged.count == 0, none_is_ours);
        assert_eq!(a.differences, b.differences, "{rules}");
        assert_eq!(one.found, other.found, "{rules}");
        assert_eq!((&a.expected, &a.actual), (&b.expected, &b.actual), "{rules}");
        assert_eq!(a.counts, b.counts, "{rules}");
        assert_eq!(a.hops, b.hops, "{rules}");
        assert_eq!(a.recall, b.recall, "{rules}");
        // Which broken groups are shown first is chance.
        let held = |outcome: &Outcome| -> Vec<_> {
            outcome.invariants.iter().map(|(rule, held)| (*rule, held.groups, held.broken)).collect()
        };
        assert_eq!(held(a), held(b), "{rules}");
        assert_eq!(a.source, b.source, "{rules}");
        assert_eq!(format!("{:?}", a.uses), format!("{:?}", b.uses), "{rules}");
    }
}
