//! Picks the parts to be projected next, with their rows where these are few.
//!
//! A first projection, and one with another mapping, looks at every part: parts and rows are then read side by side, in one
//! pass over each, because both are in order of part. Later only parts are picked that were marked.

use std::collections::{HashMap, HashSet};

use super::records::PartState;
use super::rows::StoredRow;
use super::scope::{is_part, is_whole, unit_of, whole_of};
use super::state::{Space, State};
use super::{Error, names};

/// Source bytes of the parts of one batch; bounds memory where parts are large.
const BATCH_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// A part with more bytes of rows than this is read page by page.
const FEW_BYTES_MAX: u64 = 256 * 1024;

/// What holds for a whole pass over the parts.
pub struct Pass {
    /// Whether every part is looked at, or those that are marked.
    pub all: bool,
    /// Whether parts are evaluated that did not change, too.
    forced: bool,
    /// Generation of the mapping.
    mapping: u32,
    /// Whether units have sums, which the whole of a unit shows.
    totals: bool,
    /// Parts of one batch, at most.
    parts_max: usize,
    /// Offset of the last record applied.
    pub latest: u64,
    /// Units that an operator took out, by key, each with the reason.
    pub skipped: HashMap<Vec<u8>, String>,
    /// Parts of which every row is to be written again.
    pub rewrites: HashSet<Vec<u8>>,
}

/// A part picked to be projected.
pub struct Picked {
    /// Its key.
    pub scope: Vec<u8>,
    /// What is known of it.
    pub part: PartState,
    /// Its rows, when they are few and complete.
    pub rows: Option<Vec<StoredRow>>,
    /// Whether more parts of its unit come in a later batch.
    pub more: bool,
}

impl Picked {
    fn new(scope: &[u8], part: PartState) -> Self {
        Self { scope: scope.to_vec(), part, rows: None, more: false }
    }

    fn few(&self) -> bool {
        self.part.bytes <= FEW_BYTES_MAX && self.part.incomplete == 0
    }
}

impl Pass {
    /// Begins a pass.
    pub fn begin(state: &State, mapping: u32, totals: bool, parts_max: usize) -> Result<Self, Error> {
        let all = state.get(Space::Meta, names::MARKED)?.is_none();
        let forced = state.get(Space::Meta, names::FORCED)?.is_some();
        let latest = super::apply::Applier::checkpoint(state)?.0.saturating_sub(1);
        let (skipped, rewrites) = (HashMap::new(), HashSet::new());
        let mut pass = Self { all, forced, mapping, totals, parts_max, latest, skipped, rewrites };
        state.scan(Space::Meta, names::SKIPPED, |key, reason| {
            let unit = key[names::SKIPPED.len()..].to_vec();
            pass.skipped.insert(unit, String::from_utf8_lossy(reason).into_owned());
            Ok(true)
        })?;
        state.scan(Space::Meta, names::REWRITE, |key, _| {
            pass.rewrites.insert(key[names::REWRITE.len()..].to_vec());
            Ok(true)
        })?;
        Ok(pass)
    }

    /// Picks the next parts behind `cursor`; none when there are no more.
    pub fn pick(&self, state: &State, cursor: &mut Option<Vec<u8>>) -> Result<Vec<Picked>, Error> {
        let mut picked = Vec::new();
        let mut bytes = 0;
        let start = cursor.clone();
        // The whole of the unit that the batch before ended in came with that batch; where more of its parts follow it comes with
        // those. Whether it is due by itself is chance: that batch is being written.
        let came = start.as_deref().filter(|_| self.totals).map(whole_of);
        let mut last = Vec::new();
        let mut full = |picked: &[Picked], size| {
            bytes += size;
            picked.len() >= self.parts_max || bytes >= BATCH_BYTES_MAX
        };
        if self.all {
            state.scan_after(Space::Parts, start.as_deref(), |scope, part| {
                if !is_part(scope) {
                    return Ok(false);
                }
                last.clear();
                last.extend_from_slice(scope);
                let part = PartState::from_bytes(part)?;
                if came.as_deref() == Some(scope) || !self.due(&part)? {
                    return Ok(true);
                }
                let size = part.bytes;
                picked.push(Picked::new(scope, part));
                Ok(!full(&picked, size))
            })?;
        } else {
            state.scan_after(Space::Dirty, start.as_deref(), |scope, _| {
                last.clear();
                last.extend_from_slice(scope);
                if came.as_deref() == Some(scope) {
                    return Ok(true);
                }
                let part = part_of(state, scope)?.ok_or(Error::Damaged("parts"))?;
                let size = part.bytes;
                picked.push(Picked::new(scope, part));
                Ok(!full(&picked, size))
            })?;
        }
        if !last.is_empty() {
            *cursor = Some(last);
        }
        if self.totals {
            self.add_wholes(state, &mut picked, cursor.as_deref())?;
        }
        self.read_rows(state, &mut picked)?;
        Ok(picked)
    }

    /// Whether a part has changed since it was evaluated.
    pub fn due(&self, part: &PartState) -> Result<bool, Error> {
        Ok(self.forced || due(part, self.mapping)?)
    }

    /// Where other parts of a unit were picked, its whole shows their sums and goes with them: rows that they refer to
    /// are written first. While more of them follow it comes again with those.
    fn add_wholes(&self, state: &State, picked: &mut Vec<Picked>, cursor: Option<&[u8]>) -> Result<(), Error> {
        let mut with_wholes: Vec<Picked> = Vec::with_capacity(picked.len() + 1);
        let mut parts = std::mem::take(picked).into_iter().peekable();
        while let Some(part) = parts.next() {
            let last_of_unit = parts.peek().is_none_or(|next| unit_of(&next.scope) != unit_of(&part.scope));
            let lacks_whole = last_of_unit && !is_whole(&part.scope);
            let (last, whole) = (parts.peek().is_none(), whole_of(&part.scope));
            with_wholes.push(part);
            if !lacks_whole {
                continue;
            }
            if let Some(found) = part_of(state, &whole)? {
                let more = last && self.follows(state, cursor, unit_of(&whole))?;
                with_wholes.push(Picked { more, ..Picked::new(&whole, found) });
            }
        }
        *picked = with_wholes;
        Ok(())
    }

    /// Whether a part of the unit, other than its whole, is to be picked behind `cursor`.
    fn follows(&self, state: &State, cursor: Option<&[u8]>, unit: &[u8]) -> Result<bool, Error> {
        let mut found = false;
        let space = if self.all { Space::Parts } else { Space::Dirty };
        state.scan_after(space, cursor, |scope, part| {
            if unit_of(scope) != unit || is_whole(scope) {
                return Ok(false);
            }
            found = !self.all || self.due(&PartState::from_bytes(part)?)?;
            Ok(!found)
        })?;
        Ok(found)
    }

    fn read_rows(&self, state: &State, picked: &mut [Picked]) -> Result<(), Error> {
        if self.all {
            // The whole of a unit stands behind all of its parts, those of later batches too: it is read by itself.
            for run in picked.chunk_by_mut(|a, b| a.few() && b.few() && !b.more) {
                if run[0].few() {
                    read_run(state, run)?;
                }
            }
            return Ok(());
        }
        for part in picked.iter_mut().filter(|part| part.few()) {
            read_run(state, std::slice::from_mut(part))?;
        }
        Ok(())
    }
}

/// Whether a part has changed since it was evaluated with this mapping.
pub fn due(part: &PartState, mapping: u32) -> Result<bool, Error> {
    Ok(part.result()?.is_none_or(|result| result.offset < part.last || result.mapping != mapping))
}

fn part_of(state: &State, scope: &[u8]) -> Result<Option<PartState>, Error> {
    state.get(Space::Parts, scope)?.map(|bytes| PartState::from_bytes(&bytes)).transpose()
}

/// Reads the rows of parts in order, in one pass over all rows from the first part to the last.
fn read_run(state: &State, run: &mut [Picked]) -> Result<(), Error> {
    let mut missing: u64 = 0;
    for part in run.iter_mut() {
        let rows = part.part.rows.iter().sum::<u64>();
        // No more than the bytes of few rows can be.
        part.rows = Some(Vec::with_capacity(usize::try_from(rows.min(part.part.bytes)).unwrap_or(0)));
        missing += rows;
    }
    let Some(first) = run.first().map(|part| part.scope.clone()) else { return Ok(()) };
    if missing == 0 {
        return Ok(());
    }
    let mut at = 0;
    state.scan_after(Space::Rows, Some(&first), |place, bytes| {
        while !place.starts_with(&run[at].scope) {
            if *place < *run[at].scope {
                // A row of a part that was not picked.
                return Ok(true);
            }
            at += 1;
            if at == run.len() {
                return Ok(false);
            }
        }
        let key = place[run[at].scope.len()..].into();
        run[at].rows.get_or_insert_default().push((key, bytes.into()));
        missing = missing.saturating_sub(1);
        Ok(missing > 0)
    })?;
    if missing > 0 { Err(Error::Damaged("rows")) } else { Ok(()) }
}
