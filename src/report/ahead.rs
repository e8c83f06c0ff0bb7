//! Which discrepancies a night needs whole, decided before they are made: a line takes longer to make than to count.

use crate::reconcile::{Alike, Discrepancy, Told};

use super::causes::KEPT_MAX;

/// Counts discrepancies that are neither listed nor kept as examples.
#[derive(Debug)]
pub struct Ahead {
    /// How many are still to be listed.
    left: u64,
    /// Whether the age of each has to be found by its id.
    dated: bool,
    looks: Vec<Counted>,
}

#[derive(Debug)]
struct Counted {
    alike: Alike,
    /// Made whole.
    whole: usize,
    /// Counted only.
    more: u64,
}

impl Ahead {
    /// So many are listed; ages are asked for where an earlier night found anything.
    pub(super) fn new(listed: u64, dated: bool) -> Self {
        Self { left: listed, dated, looks: Vec::new() }
    }

    /// The discrepancy, if it is needed whole; otherwise it is counted.
    pub fn take(&mut self, told: Told<'_>) -> Option<Discrepancy> {
        match self.looks.iter_mut().find(|counted| told.is_like(&counted.alike)) {
            Some(counted) if self.left == 0 && !self.dated && counted.whole >= KEPT_MAX => {
                counted.more += 1;
                return None;
            }
            Some(counted) => counted.whole += 1,
            None => self.looks.extend(told.alike().map(|alike| Counted { alike, whole: 1, more: 0 })),
        }
        self.left = self.left.saturating_sub(1);
        Some(told.whole())
    }

    /// Those that were only counted.
    pub(super) fn counted(self) -> impl Iterator<Item = (Alike, u64)> {
        self.looks.into_iter().map(|counted| (counted.alike, counted.more)).filter(|(_, more)| *more > 0)
    }
}
