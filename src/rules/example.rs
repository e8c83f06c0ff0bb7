//! Whether the invariants hold for rows in memory: for the examples of a migration, and for exports.

use super::expect::{Broken, Tally};
use super::ruleset::Ruleset;
use super::table::Judged;
use super::uses::Uses;
use crate::mapping::{Case, Corpus, Migration, ReadError, SourceTable, UnitRows as _};

impl Tally {
    /// Adds up both sides of every invariant over legacy rows in memory and the target rows that the mapping makes of them.
    ///
    /// # Errors
    /// [`ReadError`] never, as all is in memory.
    pub fn of(migration: &Migration, rules: &Ruleset, corpus: &Corpus) -> Result<Self, ReadError> {
        let (mut tally, mut uses) = (Self::new(), Uses::new());
        for unit in corpus.units() {
            let parts = corpus.parts(migration, unit)?;
            let parked = parts.iter().any(|(_, evaluation)| evaluation.parked.is_some());
            let mut told = |told| if parked { tally.set_aside(told) } else { tally.add(told) };
            for (part, evaluation) in &parts {
                let quarantined = &evaluation.accounts.quarantined_rows;
                for index in 0..migration.source_tables().len() {
                    let table = SourceTable(u16::try_from(index).unwrap_or(u16::MAX));
                    let Some(rows) = corpus.rows(unit, part) else { continue };
                    rows.scan(table, &mut |_, row| {
                        if !quarantined.iter().any(|held| held.table == table && held.key == row.key) {
                            rules.told_by_source(table, &row.values, &mut told);
                        }
                    })?;
                }
                for row in &evaluation.rows {
                    if !matches!(rules.table(row.table).scope(row, &mut uses), Judged::OutOfScope(_)) {
                        rules.told_by_target(row.table, &row.values, &mut told);
                    }
                }
            }
        }
        Ok(tally)
    }
}

impl Ruleset {
    /// Groups of an example for which an invariant does not hold, though the mapping says what is right.
    ///
    /// # Errors
    /// [`ReadError`] never, as all is in memory.
    pub fn broken_by(&self, migration: &Migration, example: &Case) -> Result<Vec<Broken>, ReadError> {
        let corpus = Corpus::place(migration, example.given().to_vec())?;
        Ok(Tally::of(migration, self, &corpus)?.broken(self))
    }
}
