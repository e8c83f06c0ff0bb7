//! The conservation equations (I5): everything that came in is somewhere, counted on both sides independently.
//!
//! Rows read are counted when they are applied to the state; what became of them is counted from the units' results, one
//! by one. Nothing here is got by subtraction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::apply::{Applier, NAMELESS, UNROUTED};
use super::counters::EventCounts;
use super::result::{RowCounts, Status, TargetCounts, UnitResult};
use super::source::SourceShape;
use super::state::{Frozen, Space, UnitHeader};
use super::{Error, names};

/// Rows of one source table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowBalance {
    /// Live rows, counted as they were applied.
    pub read: i64,
    /// Rows of evaluated units by what became of them.
    #[serde(flatten)]
    pub counts: RowCounts,
    /// Rows of units that wait: not evaluated since they changed, or with cells that nothing has told yet.
    pub waiting: u64,
}

impl RowBalance {
    /// Whether every row read is accounted for.
    pub fn balanced(&self) -> bool {
        u64::try_from(self.read) == Ok(self.counts.total() + self.waiting)
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

    /// Counts everything in the state, unit by unit, as of one moment: a commit in between would unbalance the sums.
    pub fn count(state: &Frozen<'_>, sources: &[SourceShape]) -> Result<Self, Error> {
        let counters = Applier::counters(state)?;
        let mut sums = Self { events: counters.tables, ..Self::default() };
        for source in sources {
            let read = sums.events.entry(source.relation.table.to_string()).or_default().rows;
            sums.rows.insert(source.relation.table.to_string(), RowBalance { read, ..RowBalance::default() });
        }
        state.each(Space::Units, |unit, header| {
            let header = UnitHeader::from_bytes(header)?;
            sums.add_unit(state, sources, unit, &header)
        })?;
        Ok(sums)
    }

    fn add_unit(
        &mut self,
        state: &Frozen<'_>,
        sources: &[SourceShape],
        unit: &[u8],
        header: &UnitHeader,
    ) -> Result<(), Error> {
        if unit == NAMELESS {
            for (balance, count) in self.balances(sources, header) {
                *balance.counts.quarantined.entry("no_unit".to_owned()).or_default() += count;
            }
            return Ok(());
        }
        let pending = unit == UNROUTED || state.get(Space::Dirty, unit)?.is_some();
        let result: Option<UnitResult> = match state.get(Space::Results, unit)? {
            Some(bytes) => Some(serde_json::from_slice(&bytes).map_err(|_| Error::Damaged("results"))?),
            None => None,
        };
        let Some(result) = result.filter(|result| !pending && result.status != Status::Waiting) else {
            *self.units.entry("waiting".to_owned()).or_default() += u64::from(header.rows.iter().any(|rows| *rows > 0));
            for (balance, count) in self.balances(sources, header) {
                balance.waiting += count;
            }
            return Ok(());
        };
        let status = match &result.status {
            Status::Parked { reason, .. } => format!("parked:{reason}"),
            _ if header.rows.iter().all(|rows| *rows == 0) => "gone".to_owned(),
            _ => "done".to_owned(),
        };
        *self.units.entry(status).or_default() += 1;
        for (table, counts) in &result.rows {
            self.rows.entry(table.clone()).or_default().counts.add(counts);
        }
        for (name, count) in &result.counts {
            *self.counts.entry(name.clone()).or_default() += count;
        }
        self.target.add(&result.target);
        Ok(())
    }

    fn balances<'a>(
        &'a mut self,
        sources: &'a [SourceShape],
        header: &'a UnitHeader,
    ) -> impl Iterator<Item = (&'a mut RowBalance, u64)> {
        let counts: BTreeMap<&str, u64> =
            sources.iter().map(|source| &*source.relation.table).zip(header.rows.iter().copied()).collect();
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
