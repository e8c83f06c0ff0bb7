//! Discrepancies that have the same look, gathered: a thousand wrong rows mostly have one cause.
//!
//! Two have the same look when table, kind, state, fields, rules, blame, mapping and writer are the same; when they were
//! written is counted by the hour. Memory is bounded by the number of looks, of which there are few unless something is
//! very wrong: then the rest is gathered by table and kind alone.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::reconcile::{Alike, Blame, Cause, Discrepancy, Kind, State, When, Writer};

/// Looks told apart; the page shows fewer, and programs can group the lines themselves.
const LOOKS_MAX: usize = 1_000;
/// Ids kept of each look.
const EXAMPLES_MAX: usize = 5;
/// Whole discrepancies kept of each look, for the page.
pub(super) const KEPT_MAX: usize = 20;

/// Seconds of an hour.
const HOUR: i64 = 3_600;

/// What makes a look.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Look {
    table: String,
    kind: Kind,
    state: State,
    fields: Vec<String>,
    rules: Vec<String>,
    blame: Blame,
    mapping: Option<u32>,
    writer: Writer,
}

impl Look {
    fn of(discrepancy: &Discrepancy) -> Self {
        let sorted = |names: Vec<String>| {
            let mut names = names;
            names.sort_unstable();
            names.dedup();
            names
        };
        Self {
            table: discrepancy.table.clone(),
            kind: discrepancy.kind,
            state: discrepancy.state,
            fields: sorted(discrepancy.fields.iter().map(|field| column(&field.field).to_owned()).collect()),
            rules: sorted(discrepancy.fields.iter().filter_map(|field| field.rule.clone()).collect()),
            blame: discrepancy.blame,
            mapping: discrepancy.mapping,
            writer: discrepancy.writer,
        }
    }

    fn of_alike(alike: &Alike) -> Self {
        let Alike { ref table, kind, state, blame, writer } = *alike;
        let (table, fields, rules) = (table.to_string(), Vec::new(), Vec::new());
        Self { table, kind, state, fields, rules, blame, mapping: None, writer }
    }

    /// The same without what there can be many of.
    fn coarse(self) -> Self {
        Self { fields: vec!["*".to_owned()], rules: Vec::new(), mapping: None, writer: Writer::Unknown, ..self }
    }
}

/// The column that a path within it begins with: positions within a document are as many as its items.
fn column(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or(path)
}

#[derive(Debug, Default)]
struct Gathered {
    count: u64,
    examples: Vec<String>,
    kept: Vec<Discrepancy>,
    /// Rows by hour, as hours since 1970.
    hours: BTreeMap<i64, u64>,
}

/// Gathers discrepancies by their look.
#[derive(Debug, Default)]
pub struct Causes {
    looks: HashMap<Look, Gathered>,
}

impl Causes {
    /// Takes one up.
    pub fn add(&mut self, discrepancy: &Discrepancy) {
        let gathered = self.gathered(Look::of(discrepancy));
        gathered.count += 1;
        if gathered.examples.len() < EXAMPLES_MAX {
            gathered.examples.push(discrepancy.id.clone());
        }
        if gathered.kept.len() < KEPT_MAX {
            gathered.kept.push(discrepancy.clone());
        }
        if let Some(written) = discrepancy.written {
            *gathered.hours.entry(written.as_second().div_euclid(HOUR)).or_default() += 1;
        }
    }

    /// Takes more up that look alike, and of which enough are kept.
    pub fn add_more(&mut self, alike: &Alike, count: u64) {
        self.gathered(Look::of_alike(alike)).count += count;
    }

    fn gathered(&mut self, look: Look) -> &mut Gathered {
        let is_new = !self.looks.contains_key(&look);
        let look = if is_new && self.looks.len() >= LOOKS_MAX { look.coarse() } else { look };
        self.looks.entry(look).or_default()
    }

    /// The causes, proven ones first and then by number, and at most `most` discrepancies that stand for all of them: some of each cause, by turns.
    pub fn finish(self, most: usize) -> (Vec<Cause>, Vec<Discrepancy>) {
        let mut looks: Vec<_> = self.looks.into_iter().collect();
        looks.sort_by(|(a, some), (b, more)| {
            a.state.cmp(&b.state).then_with(|| more.count.cmp(&some.count)).then_with(|| a.cmp(b))
        });
        let mut sample: Vec<Vec<Discrepancy>> = Vec::new();
        let mut left = most;
        for turn in 0..KEPT_MAX {
            for (index, (_, gathered)) in looks.iter().enumerate() {
                if sample.len() <= index {
                    sample.push(Vec::new());
                }
                if let (1.., Some(kept)) = (left, gathered.kept.get(turn)) {
                    sample[index].push(kept.clone());
                    left -= 1;
                }
            }
        }
        let causes = looks.into_iter().map(|(look, gathered)| cause(look, gathered)).collect();
        (causes, sample.into_iter().flatten().collect())
    }
}

fn cause(look: Look, gathered: Gathered) -> Cause {
    let hour = |hour: &i64| Timestamp::from_second(hour * HOUR).ok();
    let busiest = gathered.hours.iter().max_by(|(a, some), (b, more)| some.cmp(more).then(b.cmp(a)));
    let ends = (gathered.hours.keys().next().and_then(hour), gathered.hours.keys().next_back().and_then(hour));
    let when = match (ends, busiest) {
        ((Some(first), Some(last)), Some((at, &count))) => hour(at).map(|busiest| When { first, last, busiest, count }),
        _ => None,
    };
    Cause {
        table: look.table,
        kind: look.kind,
        state: look.state,
        fields: look.fields,
        rules: look.rules,
        blame: look.blame,
        mapping: look.mapping,
        writer: look.writer,
        when,
        count: gathered.count,
        examples: gathered.examples,
    }
}
