//! The conservation equations (I5): everything that came in is somewhere, counted on both sides independently.
//!
//! Rows read are counted when they are applied to the state; what became of them is counted from the parts' results,
//! one by one. Nothing here is got by subtraction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::apply::Applier;
use super::counters::EventCounts;
use super::pick::due;
use super::records::PartState;
use super::result::{RowCounts, Status, TargetCounts};
use super::scope::{Scope, unit_of};
use super::source::SourceShape;
use super::state::{Frozen, Space};
use super::{Error, names};

/// Rows of one source table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowBalance {
    /// Live rows, counted as they were applied.
    pub read: i64,
    /// Rows of evaluated units by what became of them.
    #[serde(flatten)]
    pub counts: RowCounts,
    /// Rows that wait: not evaluated since they changed, with cells that nothing has told yet, or without a place.
    pub waiting: u64,
    /// Rows that other rows are looked up in, and that have no target of their own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lookup: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Where a part stands, best first; a unit stands where the worst of its parts does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Gone,
    Done,
    Parked(String),
    Waiting,
}

impl RowBalance {
    /// Whether every row read is accounted for.
    pub fn balanced(&self) -> bool {
        u64::try_from(self.read) == Ok(self.counts.total() + self.waiting + self.lookup)
    }
}

/// The three equations and what they are made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conservation {
    /// Events by source table.
    pub events: BTreeMap<String, EventCounts>,
    /// Rows by source table.
    pub rows: BTreeMap<String, RowBalance>,
    /// Rows at the target.
    pub target: TargetCounts,
    /// Units by where they stand; parked ones by reason.
    pub units: BTreeMap<String, u64>,
    /// Other things the mapping counts.
    pub counts: BTreeMap<String, u64>,
}

impl Conservation {
    /// Whether all three equations hold.
    pub fn balanced(&self) -> bool {
        let target = &self.target;
        self.events.values().all(EventCounts::balanced)
            && self.rows.values().all(RowBalance::balanced)
            && target.expected == target.written + target.foreign + target.parked
    }

    /// Units that are parked, for whatever reason.
    pub fn parked(&self) -> u64 {
        self.units.iter().filter(|(status, _)| status.starts_with("parked:")).map(|(_, count)| count).sum()
    }

    /// Counts everything in the state, part by part, as of one moment: a commit in between would unbalance the sums.
    /// `mapping` is the present generation of the mapping.
    pub fn count(state: &Frozen<'_>, sources: &[SourceShape], mapping: u32) -> Result<Self, Error> {
        let counters = Applier::counters(state)?;
        let mut sums = Self { events: counters.tables, ..Self::default() };
        for source in sources {
            let read = sums.events.entry(source.label.to_string()).or_default().rows;
            sums.rows.insert(source.label.to_string(), RowBalance { read, ..RowBalance::default() });
        }
        // Parts come in order of unit: a unit stands where the worst of its parts does.
        let mut unit: Option<(Vec<u8>, Standing)> = None;
        state.each(Space::Parts, |scope, part| {
            let part = PartState::from_bytes(part)?;
            let standing = sums.add_part(sources, scope, &part, mapping)?;
            let Some(standing) = standing else { return Ok(()) };
            match &mut unit {
                Some((of, worst)) if of == unit_of(scope) => {
                    if standing > *worst {
                        *worst = standing;
                    }
                }
                _ => {
                    if let Some((_, worst)) = unit.replace((unit_of(scope).to_vec(), standing)) {
                        sums.add_unit(worst);
                    }
                }
            }
            Ok(())
        })?;
        if let Some((_, worst)) = unit {
            sums.add_unit(worst);
        }
        Ok(sums)
    }

    fn add_unit(&mut self, standing: Standing) {
        let word = match standing {
            Standing::Gone => "gone".to_owned(),
            Standing::Done => "done".to_owned(),
            Standing::Parked(reason) => format!("parked:{reason}"),
            Standing::Waiting => "waiting".to_owned(),
        };
        *self.units.entry(word).or_default() += 1;
    }

    /// Adds one part; answers where it stands, if it is one of a unit and was ever of concern.
    fn add_part(
        &mut self,
        sources: &[SourceShape],
        scope: &[u8],
        part: &PartState,
        mapping: u32,
    ) -> Result<Option<Standing>, Error> {
        match Scope::of(scope)? {
            Scope::Part { .. } => {}
            Scope::Waiting => {
                self.balances(sources, part).for_each(|(balance, count)| balance.waiting += count);
                return Ok(None);
            }
            Scope::Quarantined { reason } => {
                for (balance, count) in self.balances(sources, part).filter(|(_, count)| *count > 0) {
                    *balance.counts.quarantined.entry(reason.to_owned()).or_default() += count;
                }
                return Ok(None);
            }
            Scope::Lookup => {
                self.balances(sources, part).for_each(|(balance, count)| balance.lookup += count);
                return Ok(None);
            }
        }
        let pending = due(part, mapping)?;
        let Some(result) = part.result()?.filter(|result| !pending && result.status != Status::Waiting) else {
            self.balances(sources, part).for_each(|(balance, count)| balance.waiting += count);
            return Ok((!part.empty()).then_some(Standing::Waiting));
        };
        for (table, counts) in &result.rows.0 {
            self.rows.entry(table.to_string()).or_default().counts.add(counts);
        }
        for (name, count) in &result.counts {
            *self.counts.entry(name.clone()).or_default() += count;
        }
        self.target.add(&result.target);
        Ok(Some(match result.status {
            Status::Parked { reason, .. } => Standing::Parked(reason),
            _ if part.empty() => Standing::Gone,
            _ => Standing::Done,
        }))
    }

    fn balances<'a>(
        &'a mut self,
        sources: &'a [SourceShape],
        part: &'a PartState,
    ) -> impl Iterator<Item = (&'a mut RowBalance, u64)> {
        let counts: BTreeMap<&str, u64> =
            sources.iter().map(|source| &*source.label).zip(part.rows.iter().copied()).collect();
        self.rows
            .iter_mut()
            .filter_map(move |(table, balance)| counts.get(table.as_str()).map(|count| (balance, *count)))
    }
}

impl Applier {
    /// The counts as last committed.
    pub fn counters(state: &Frozen<'_>) -> Result<super::counters::Counters, Error> {
        match state.get(Space::Meta, names::COUNTERS)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| Error::Damaged("counters")),
            None => Ok(super::counters::Counters::default()),
        }
    }
}
