//! Keeps what became of parts that were written, parked or left: in the state, for whoever asks and for the next time.

use std::collections::BTreeSet;

use crate::target::{Deletes, UnitOutcome, UnitWrite};

use super::pick::Pass;
use super::prepare::{Prepared, park_result, sums_from};
use super::projector::{Done, Projector};
use super::references::{Dependent, depend};
use super::result::{PartResult, Status};
use super::scope::{unit_of, unit_text};
use super::session::Session;
use super::state::Space;
use super::{Error, names, owned};

/// Reason for which a target parks a part whose rows refer to others that are not there.
const FOREIGN_KEY: &str = "foreign_key";
/// Reasons for which a part is parked until other rows are at the target, or others are not.
const HELD_BACK: [&str; 5] = [FOREIGN_KEY, "unique", "foreign", "matched_foreign", "foreign_children"];

impl Projector {
    /// Parts that are parked now.
    pub fn parked_now(&self) -> Result<u64, Error> {
        Ok(count_of(self.state().get(Space::Meta, names::PARKED)?))
    }

    /// Keeps what became of each part, and takes it off the list of parts to be projected.
    pub(super) fn keep(
        &self,
        pass: &Pass,
        session: &mut Session<'_>,
        mut batch: Vec<Prepared>,
        writes: &[UnitWrite],
        outcomes: Vec<UnitOutcome>,
        done: &mut Done,
    ) -> Result<(), Error> {
        let mut outcomes = writes.iter().zip(outcomes).peekable();
        let before = session.get(Space::Meta, names::WRITTEN)?;
        let mut highest = before.as_deref().map_or((0, 0), names::read_written);
        for prepared in &mut batch {
            let own = |(write, _): &(&UnitWrite, UnitOutcome)| is_of(write, &prepared.scope);
            let mut again = false;
            if let Some((write, outcome)) = outcomes.next_if(own) {
                if matches!(outcome, UnitOutcome::Written { .. } | UnitOutcome::Repeated) {
                    highest = highest.max((prepared.result.mapping, prepared.result.offset));
                    // Not before: a write that was refused has still to write every row.
                    if pass.rewrites.contains(&prepared.scope) {
                        session.remove(Space::Meta, &names::rewrite(&prepared.scope));
                    }
                }
                // What it refers to may come later in this very pass: it is tried once more before it counts as parked.
                again = matches!(&outcome, UnitOutcome::Parked { reason, .. } if **reason == *FOREIGN_KEY)
                    && !prepared.was_parked();
                if !self.evaluator.target_remembers {
                    self.keep_owned(session, &prepared.scope, write, &outcome);
                }
                if changed_again(prepared, &outcome) {
                    let count = count_of(session.get(Space::Meta, names::AGAIN)?);
                    session.put(Space::Meta, names::AGAIN, (count + 1).to_be_bytes());
                }
                if matches!(outcome, UnitOutcome::Parked { .. }) {
                    session.put(Space::Meta, &names::refused(&prepared.scope), Vec::new());
                } else if prepared.was_parked() {
                    session.remove(Space::Meta, &names::refused(&prepared.scope));
                }
                settle(prepared, outcome, done);
            }
            self.keep_part(pass, session, prepared, again, done)?;
        }
        session.put(Space::Meta, names::WRITTEN, names::written(highest.0, highest.1));
        Ok(())
    }

    fn keep_part(
        &self,
        pass: &Pass,
        session: &mut Session<'_>,
        prepared: &mut Prepared,
        again: bool,
        done: &mut Done,
    ) -> Result<(), Error> {
        let scope = &prepared.scope;
        let parked = prepared.result.parked_for();
        if let (Some(reason), false, false) = (parked, prepared.was_parked(), again) {
            *done.parked.entry(reason.to_owned()).or_default() += 1;
        }
        if parked.is_some() != prepared.was_parked() {
            let count = count_of(session.get(Space::Meta, names::PARKED)?);
            let now = if parked.is_some() { count + 1 } else { count.saturating_sub(1) };
            session.put(Space::Meta, names::PARKED, now.to_be_bytes());
        }
        let totals = self.evaluator.migration.totals();
        let change = prepared.change_of_totals(totals);
        if change.iter().any(|change| *change != 0) {
            let unit = unit_of(scope);
            let mut sums = sums_from(session.get(Space::Totals, unit)?.as_deref().unwrap_or_default(), totals)?;
            sums.iter_mut().zip(change).for_each(|(sum, change)| *sum += change);
            session.put(Space::Totals, unit, sums.iter().flat_map(|sum| sum.to_be_bytes()).collect::<Vec<_>>());
        }
        let before = prepared.before.as_deref();
        let asked = before.map_or(&[][..], |result| &result.asked);
        depend(session, &Dependent::Part(scope.clone()), asked, &prepared.result.asked);
        prepared.result.noted = !prepared.notes.is_empty();
        if let Some(note) = prepared.notes.first().filter(|_| !before.is_some_and(|result| result.noted)) {
            *done.quarantined.entry(note.reason.clone()).or_default() += 1;
        }
        if prepared.result.noted {
            let notes = serde_json::to_vec(&prepared.notes).expect("notes are plain text");
            session.put(Space::Notes, scope, notes);
        } else if before.is_some_and(|result| result.noted) {
            session.remove(Space::Notes, scope);
        }
        prepared.part.last = prepared.part.last.max(prepared.result.offset);
        prepared.part.set_result(&prepared.result);
        session.put(Space::Parts, scope, prepared.part.to_bytes());
        if again {
            done.called_back += 1;
            session.put(Space::Dirty, scope, Vec::new());
        } else if !pass.all {
            session.remove(Space::Dirty, scope);
        }
        // Someone else's row may be another part's, as where the state was built anew and does not know who wrote what.
        let awaits = |result: &PartResult| {
            result.parked_for().is_some_and(|reason| HELD_BACK.contains(&reason)) || result.target.foreign > 0
        };
        if awaits(&prepared.result) {
            session.put(Space::Meta, &names::awaiting(scope), Vec::new());
        } else if before.is_some_and(awaits) {
            session.remove(Space::Meta, &names::awaiting(scope));
        }
        Ok(())
    }

    /// Keeps the keys that parts are about to be written under, where the target does not: after a crash in between, an
    /// item that the next evaluation lacks would else be forgotten at the target.
    pub(super) fn keep_owned_ahead(&self, prepared: &[Prepared], writes: &[UnitWrite]) -> Result<(), Error> {
        if self.evaluator.target_remembers {
            return Ok(());
        }
        let tables = &self.evaluator.tables;
        let mut session = self.state().session();
        let mut writes = writes.iter().peekable();
        for prepared in prepared {
            let Some(write) = writes.next_if(|write| is_of(write, &prepared.scope)) else { continue };
            let mut keys: BTreeSet<_> = write.before.iter().cloned().collect();
            let before = keys.len();
            keys.extend(write.rows.iter().map(|row| tables[usize::from(row.table.0)].key_of(row)));
            if keys.len() > before {
                session.put(Space::Owned, &prepared.scope, owned::pack(keys.iter(), tables));
            }
        }
        if session.changed() == 0 {
            return Ok(());
        }
        session.commit()?;
        self.state().sync()
    }

    /// Keeps the keys that a part was written under, where the target does not.
    fn keep_owned(&self, session: &mut Session<'_>, scope: &[u8], write: &UnitWrite, outcome: &UnitOutcome) {
        if !matches!(outcome, UnitOutcome::Written { .. } | UnitOutcome::Repeated) {
            return;
        }
        let tables = &self.evaluator.tables;
        let mut keys: BTreeSet<_> = write.rows.iter().map(|row| tables[usize::from(row.table.0)].key_of(row)).collect();
        if write.deletes == Deletes::Later {
            keys.extend(write.before.iter().cloned());
        }
        if keys.is_empty() {
            session.remove(Space::Owned, scope);
        } else {
            session.put(Space::Owned, scope, owned::pack(keys.iter(), tables));
        }
    }
}

/// Whether a write changed rows though nothing of the part is newer than when it was last written.
fn changed_again(prepared: &Prepared, outcome: &UnitOutcome) -> bool {
    let rows = match outcome {
        UnitOutcome::Written { upserted, deleted, .. } => upserted + deleted,
        _ => 0,
    };
    rows > 0 && prepared.before.as_ref().is_some_and(|before| before.offset >= prepared.part.last)
}

/// A number that the state keeps; 0 where it has none yet.
pub fn count_of(stored: Option<Vec<u8>>) -> u64 {
    stored.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Whether a write is that of a part.
fn is_of(write: &UnitWrite, scope: &[u8]) -> bool {
    scope[unit_of(scope).len()..] == *write.part && unit_text(scope).is_ok_and(|unit| *unit == *write.unit)
}

/// Enters the target's answer into a part's result.
fn settle(prepared: &mut Prepared, outcome: UnitOutcome, done: &mut Done) {
    let result: &mut PartResult = &mut prepared.result;
    match outcome {
        UnitOutcome::Written { upserted, unchanged, deleted, foreign, matched_foreign } => {
            done.target_rows += upserted + deleted;
            result.target.written = upserted + unchanged;
            result.target.foreign = foreign + matched_foreign;
        }
        // The target has this version already: the write happened, its answer was lost.
        UnitOutcome::Repeated | UnitOutcome::Superseded { .. } => {
            if result.status == Status::Done {
                result.target.written = result.target.expected;
            }
        }
        UnitOutcome::Parked { reason, detail } => {
            park_result(result, &reason, &detail);
            prepared.notes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Part;
    use crate::project::scope::scope_key;
    use crate::target::{Trust, WriteVersion};

    #[test]
    fn a_part_whose_name_ends_as_the_whole_s_does_is_not_the_whole() {
        let whole = scope_key("u", &Part::Whole);
        let version = WriteVersion { log: 1, mapping: 1, partition: 0, offset: 1 };
        let (unit, part) = ("u".into(), whole[unit_of(&whole).len()..].into());
        let (trust, deletes) = (Trust::Record, Deletes::Now);
        let write = UnitWrite { unit, part, version, rows: Vec::new(), trust, deletes, before: Vec::new() };
        assert!(is_of(&write, &whole));
        assert!(!is_of(&write, &scope_key("u", &Part::Of([7, 0xff, 0xff].into()))));
        assert!(!is_of(&write, &scope_key("v", &Part::Whole)));
    }
}
