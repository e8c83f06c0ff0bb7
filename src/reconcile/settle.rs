//! What a difference comes to once it is known how its part stood while both sides were read: pure (I8).
//!
//! Two halves. *Target = f(log state)*: the part was projected before the target was read, and no record concerned it until
//! after. *Legacy = log state*: the log holds everything that the source's side was read from, and nothing of it concerned the
//! part either. Both together make a difference real at the cut, without reading a row again. For a part that moved they say
//! nothing, and it is looked at by itself.

use super::counts::Class;
use super::discrepancy::{Blame, Kind, State};
use super::join::Difference;

/// How the part of a difference stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stood {
    /// It stood still from before both sides were read until the log held all that was read of the source.
    Still,
    /// It moved, or waited to be projected, or the log does not reach far enough.
    Moved,
    /// The row is known by its record to be someone else's, and nothing moved: no part has it, and none is about to.
    Nobodys,
}

/// Why the part of a difference is not at the target as the mapping wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parked {
    /// It is not parked.
    No,
    /// Because of rows of someone else.
    Foreign,
    /// For another reason.
    Otherwise,
}

/// What a difference comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// This, and it stays this.
    As(Finding),
    /// Its unit is to be looked at by itself.
    Ask,
}

/// A difference, classed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// What became of its rows.
    pub class: Class,
    /// What kind of discrepancy it is.
    pub kind: Kind,
    /// What is known about it.
    pub state: State,
    /// Where it went wrong.
    pub blame: Blame,
}

/// What a difference comes to.
pub fn settle(difference: Difference, waived: bool, stood: Stood, parked: Parked) -> Settled {
    let confirmed = proven(difference);
    if waived {
        return Settled::As(Finding { class: Class::Waived, state: State::Waived, ..confirmed });
    }
    match (difference, stood, parked) {
        (_, Stood::Nobodys, _) => Settled::As(confirmed),
        (_, Stood::Moved, _) => Settled::Ask,
        // A part that is held back by someone else's rows is no excuse for them.
        (_, Stood::Still, Parked::Otherwise) => Settled::As(Finding {
            class: Class::Parked,
            kind: Kind::Parked,
            state: State::Parked,
            blame: Blame::Parked,
        }),
        (_, Stood::Still, Parked::Foreign) => Settled::As(Finding { blame: Blame::Foreign, ..confirmed }),
        // The log holds what the source holds, and its projection was over: the target is not as it was written.
        (_, Stood::Still, Parked::No) => Settled::As(Finding { blame: applied(confirmed.blame), ..confirmed }),
    }
}

/// Where a difference of a projected part went wrong, unless that is known better.
fn applied(blame: Blame) -> Blame {
    if blame == Blame::Unknown { Blame::NotApplied } else { blame }
}

/// A difference that is real.
pub fn proven(difference: Difference) -> Finding {
    let (class, kind, blame) = match difference {
        Difference::Missing => (Class::Missing, Kind::Missing, Blame::Unknown),
        Difference::Extra => (Class::Extra, Kind::Extra, Blame::Unknown),
        Difference::Changed => (Class::Changed, Kind::Changed, Blame::Unknown),
        Difference::Foreign | Difference::ForeignChanged => (Class::Foreign, Kind::Foreign, Blame::Foreign),
        Difference::Duplicate => (Class::Duplicate, Kind::Duplicate, Blame::Unknown),
    };
    Finding { class, kind, state: State::Confirmed, blame }
}

/// A difference of which nothing is proven.
pub fn unsettled(difference: Difference) -> Finding {
    Finding { class: Class::Unsettled, state: State::Unsettled, blame: Blame::Unknown, ..proven(difference) }
}

/// A difference that was on its way, and is none any more.
pub fn gone(difference: Difference) -> Finding {
    Finding { class: Class::Settled, ..proven(difference) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Difference; 6] = [
        Difference::Missing,
        Difference::Extra,
        Difference::Changed,
        Difference::Foreign,
        Difference::ForeignChanged,
        Difference::Duplicate,
    ];

    #[test]
    fn nothing_is_real_that_moved_and_everything_that_stood_still() {
        for difference in ALL {
            let moved = settle(difference, false, Stood::Moved, Parked::No);
            assert_eq!(moved, Settled::Ask, "{difference:?}");
            let still = settle(difference, false, Stood::Still, Parked::No);
            assert!(matches!(still, Settled::As(Finding { state: State::Confirmed, .. })), "{difference:?}");
        }
    }

    #[test]
    fn no_label_excuses_someone_elses_row_but_a_waiver() {
        for parked in [Parked::No, Parked::Foreign] {
            let settled = settle(Difference::ForeignChanged, false, Stood::Still, parked);
            assert!(matches!(settled, Settled::As(Finding { state: State::Confirmed, class: Class::Foreign, .. })));
        }
        let missing = settle(Difference::Missing, false, Stood::Still, Parked::Foreign);
        assert!(matches!(missing, Settled::As(Finding { state: State::Confirmed, class: Class::Missing, .. })));
        let parked = settle(Difference::Missing, false, Stood::Still, Parked::Otherwise);
        assert!(matches!(parked, Settled::As(Finding { state: State::Parked, .. })));
        let waived = settle(Difference::Missing, true, Stood::Moved, Parked::No);
        assert!(matches!(waived, Settled::As(Finding { state: State::Waived, .. })));
    }
}
