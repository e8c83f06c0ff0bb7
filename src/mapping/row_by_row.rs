//! Which tables are mapped row by row: a pass over them needs no unit to be complete.

use super::plan::Migration;
use super::plan_place::PartRule;
use super::schema::{Role, SourceTable};

impl Migration {
    /// Whether every row of a table is evaluated with no other row of any unit table beside it.
    ///
    /// So it is where each row is a part of its own, and where the unit is named by the key of the only table there is.
    /// What references find does not count: it is looked up, not evaluated.
    pub fn row_by_row(&self, table: SourceTable) -> bool {
        let index = usize::from(table.0);
        let (Some(def), Some(plan)) = (self.sources.get(index), self.tables.get(index)) else { return false };
        match plan.part {
            PartRule::Row => true,
            PartRule::Group(_) => false,
            PartRule::Whole => {
                let units = self.sources.iter().filter(|source| source.role == Role::Unit).count();
                let named_by_key = def.key.len() == 1 && def.unit == def.key.first().copied();
                units == 1 && named_by_key && self.assembly.is_none() && self.totals.is_empty()
            }
        }
    }
}
