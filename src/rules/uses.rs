//! How often each rule was used, and how far it had to reach.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::ruleset::RuleId;
use crate::event::Decimal;

/// How far two values were apart that a rule lets stand for one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deviation {
    /// Difference of two numbers, with every digit.
    Number(Decimal),
    /// Distance of two times, in microseconds.
    Microseconds(i128),
}

impl Deviation {
    /// Orders deviations of one rule, which are all of one kind.
    fn reach(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.value_cmp(b),
            (Self::Microseconds(a), Self::Microseconds(b)) => a.cmp(b),
            (Self::Number(_), Self::Microseconds(_)) => Ordering::Less,
            (Self::Microseconds(_), Self::Number(_)) => Ordering::Greater,
        }
    }
}

impl fmt::Display for Deviation {
    /// `0.0001`, or seconds with their microseconds: `1.500000 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{}", number.normalised()),
            Self::Microseconds(us) => write!(f, "{}.{:06} s", us / 1_000_000, us % 1_000_000),
        }
    }
}

/// Uses of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Use {
    /// How often; what is counted depends on the kind of the rule and stands at what counts it.
    pub count: u64,
    /// The largest deviation that a tolerance let pass.
    pub largest: Option<Deviation>,
}

/// Uses of every rule of a ruleset: counted by each worker for itself, then merged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Uses(Vec<Use>);

impl Uses {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses of a rule.
    pub fn of(&self, rule: RuleId) -> Use {
        self.0.get(usize::from(rule.0)).cloned().unwrap_or_default()
    }

    /// Adds what another worker counted.
    pub fn merge(&mut self, other: &Uses) {
        for (index, use_) in other.0.iter().enumerate() {
            let slot = self.slot(index);
            slot.count += use_.count;
            reach(slot, use_.largest.as_ref());
        }
    }

    /// Takes away what was counted of pairs that were made up. How far a rule reached stays, unless nothing else used it.
    pub(crate) fn take_away(&mut self, other: &Uses) {
        for (slot, use_) in self.0.iter_mut().zip(&other.0) {
            slot.count = slot.count.saturating_sub(use_.count);
            slot.largest = slot.largest.take().filter(|_| slot.count > 0);
        }
    }

    /// Counts one use.
    pub fn add(&mut self, rule: RuleId) {
        self.slot(usize::from(rule.0)).count += 1;
    }

    /// Counts one use that reached so far.
    pub(super) fn add_deviation(&mut self, rule: RuleId, deviation: &Deviation) {
        let slot = self.slot(usize::from(rule.0));
        slot.count += 1;
        reach(slot, Some(deviation));
    }

    fn slot(&mut self, index: usize) -> &mut Use {
        if self.0.len() <= index {
            self.0.resize_with(index + 1, Use::default);
        }
        &mut self.0[index]
    }
}

fn reach(slot: &mut Use, deviation: Option<&Deviation>) {
    let Some(deviation) = deviation else { return };
    if slot.largest.as_ref().is_none_or(|largest| largest.reach(deviation) == Ordering::Less) {
        slot.largest = Some(deviation.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_merge_to_what_one_would_have_counted() {
        let number = |text| Deviation::Number(Decimal::parse(text).expect("a decimal"));
        let (mut one, mut other, mut all) = (Uses::new(), Uses::new(), Uses::new());
        for (uses, text) in [(0, "0.5"), (1, "12"), (0, "9"), (1, "0.25")] {
            if uses == 0 { &mut one } else { &mut other }.add_deviation(RuleId(3), &number(text));
            all.add_deviation(RuleId(3), &number(text));
        }
        other.add(RuleId(5));
        all.add(RuleId(5));
        one.merge(&other);
        assert_eq!(one, all);
        assert_eq!(one.of(RuleId(3)), Use { count: 4, largest: Some(number("12")) });
        assert_eq!(one.of(RuleId(9)), Use::default());
        one.take_away(&other);
        assert_eq!(one.of(RuleId(5)), Use::default());
        assert_eq!(one.of(RuleId(3)), Use { count: 2, largest: Some(number("12")) });
        assert_eq!(Deviation::Microseconds(1_500_000).to_string(), "1.500000 s");
    }
}
