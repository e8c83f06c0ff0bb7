//! Keys of the spaces that are filled and emptied all the time, kept in memory beside the store.
//!
//! A key that is removed leaves a trace in the sorted store until its tables are merged, and a scan passes every trace:
//! finding the ten parts that a moment marked would take longer the more were marked and projected before them. So what
//! these spaces hold is known in memory, as long as it is not much; when it is more, the store is scanned, as there is then
//! more to be found than passed.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::Error;
use super::changes::Changes;
use super::state::Space;

/// Spaces whose keys are known; their values are empty.
const SPACES: [Space; 2] = [Space::Dirty, Space::Wake];
/// Keys of a space that are kept in memory, at the most: some ten megabytes.
pub(super) const KEYS_MAX: usize = 100_000;
/// Keys that are handed out at a time.
const KEYS_AT_ONCE: usize = 1_024;

/// What is known of each space; `None` where it may hold more than is kept.
#[derive(Debug, Default)]
pub(super) struct Marks([Option<BTreeSet<Vec<u8>>>; SPACES.len()]);

impl Marks {
    /// Whether changes concern any of the spaces.
    pub(super) fn concern(changes: &Changes) -> bool {
        SPACES.iter().any(|space| changes.count(*space) > 0)
    }

    /// Follows changes that were just committed.
    pub(super) fn follow(&mut self, changes: &Changes) {
        for (space, known) in SPACES.iter().zip(&mut self.0) {
            let Some(keys) = known else { continue };
            for (key, value) in changes.of(*space) {
                match value {
                    Some(_) => keys.insert(key.to_vec()),
                    None => keys.remove(key),
                };
            }
            if keys.len() > KEYS_MAX {
                *known = None;
            }
        }
    }

    /// Takes in a space's keys as the store has them, unless they are known, too many, or never kept.
    pub(super) fn learn<I: Iterator<Item = Result<Vec<u8>, Error>>>(
        &mut self,
        space: Space,
        stored: impl FnOnce() -> I,
    ) -> Result<(), Error> {
        let Some(place) = place_of(space).filter(|place| self.0[*place].is_none()) else { return Ok(()) };
        let keys = stored().take(KEYS_MAX + 1).collect::<Result<BTreeSet<_>, _>>()?;
        self.0[place] = Some(keys).filter(|keys| keys.len() <= KEYS_MAX);
        Ok(())
    }

    /// Some keys behind `after` in their order, none when there are no more; `None` when they are not known.
    pub(super) fn behind(&self, space: Space, after: Option<&[u8]>) -> Option<Vec<Vec<u8>>> {
        let known = self.0[place_of(space)?].as_ref()?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        Some(known.range::<[u8], _>((start, Bound::Unbounded)).take(KEYS_AT_ONCE).cloned().collect())
    }
}

/// The place of a space among those whose keys are known.
fn place_of(space: Space) -> Option<usize> {
    SPACES.iter().position(|known| *known == space)
}
