//! Two rows that belong together, field by field.

use super::path::{Field, FieldStep, covers};
use super::ruleset::{Pair, RuleId};
use super::table::{Finding, TableRules, about};
use super::term::Looked;
use super::uses::Uses;
use crate::event::Value;
use crate::target::TargetRow;

/// What two rows are to one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// Nothing that is compared differs.
    Equal,
    /// Whatever differs is tolerated, by these rules, each once and in order.
    Tolerated(Vec<RuleId>),
    /// These fields differ, beyond what is tolerated.
    Different(Vec<FieldDifference>),
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDifference {
    /// Where.
    pub field: Field,
    /// What the mapping wants there, as it is compared; `None` where it is absent.
    pub expected: Option<Value>,
    /// What the target has there.
    pub actual: Option<Value>,
    /// The waiver that excuses it.
    pub waived: Option<RuleId>,
}

impl TableRules {
    /// Judges a pair. Counts a use of each tolerance for each field that it lets pass, with the deviation, of each waiver for
    /// each field that it excuses, and of the `match` that paired the rows.
    pub fn compare(&self, expected: &TargetRow, actual: &TargetRow, pair: Pair, uses: &mut Uses) -> Comparison {
        if let (Pair::Match, Some(matching)) = (pair, &self.matching) {
            uses.add(matching.rule);
        }
        let (wanted, found) = (self.cells(expected, pair, None), self.cells(actual, pair, None));
        let mut tolerated = Vec::new();
        let mut differences = Vec::new();
        for (column, (wanted, found)) in wanted.iter().zip(&found).enumerate() {
            if wanted == found {
                continue;
            }
            let mut places = Vec::new();
            let (wanted, found) = (wanted.value(), found.value());
            if wanted == found {
                // A document against a value that only looks like it: they differ as a whole.
                places.push((Vec::new(), wanted.cloned(), found.cloned()));
            } else {
                differ(&mut Vec::new(), wanted, found, &mut places);
            }
            for (steps, wanted, found) in places {
                match self.tolerates(column, &steps, wanted.as_ref(), found.as_ref(), pair, uses) {
                    Some(rule) => tolerated.push(rule),
                    None => {
                        let waived = self.waives(Finding::Changed, Some((column, &steps)), expected);
                        waived.into_iter().for_each(|rule| uses.add(rule));
                        let field = self.field(column, steps);
                        differences.push(FieldDifference { field, expected: wanted, actual: found, waived });
                    }
                }
            }
        }
        tolerated.sort_unstable();
        tolerated.dedup();
        match (differences.is_empty(), tolerated.is_empty()) {
            (false, _) => Comparison::Different(differences),
            (true, false) => Comparison::Tolerated(tolerated),
            (true, true) => Comparison::Equal,
        }
    }

    /// The waiver that excuses a row that is missing or too many; counts its use.
    pub fn waiver(&self, finding: Finding, row: &TargetRow, uses: &mut Uses) -> Option<RuleId> {
        let rule = self.waives(finding, None, row)?;
        uses.add(rule);
        Some(rule)
    }

    fn tolerates(
        &self,
        column: usize,
        steps: &[FieldStep],
        wanted: Option<&Value>,
        found: Option<&Value>,
        pair: Pair,
        uses: &mut Uses,
    ) -> Option<RuleId> {
        let (wanted, found) = (wanted?, found?);
        let mut rules = about(&self.tolerate, pair).filter(|rule| {
            rule.place.column == column && rule.place.steps.len() == steps.len() && covers(&rule.place.steps, steps)
        });
        rules.find_map(|rule| {
            let deviation = rule.what.admits(wanted, found)?;
            uses.add_deviation(rule.rule, &deviation);
            Some(rule.rule)
        })
    }

    fn waives(&self, finding: Finding, place: Option<(usize, &[FieldStep])>, row: &TargetRow) -> Option<RuleId> {
        let waiver = self.waive.iter().find(|waiver| {
            let covered = place.is_none_or(|(column, steps)| {
                waiver.places.is_empty()
                    || waiver.places.iter().any(|place| place.column == column && covers(&place.steps, steps))
            });
            let meant = || waiver.filter.as_ref().is_none_or(|filter| filter.holds(&Looked::new(&row.values)));
            waiver.finding == finding && covered && meant()
        })?;
        Some(waiver.rule)
    }

    fn field(&self, column: usize, mut steps: Vec<FieldStep>) -> Field {
        let of_item = self.item == Some(column) && matches!(steps.first(), Some(FieldStep::Member(_)));
        let root = match of_item.then(|| steps.remove(0)) {
            Some(FieldStep::Member(attribute)) => attribute,
            _ => self.columns[column].clone(),
        };
        Field { root, steps }
    }
}

/// A place below a column, and what either side has there.
type Place = (Vec<FieldStep>, Option<Value>, Option<Value>);

/// The smallest places at which two values differ; lists of different lengths differ as a whole.
fn differ(at: &mut Vec<FieldStep>, wanted: Option<&Value>, found: Option<&Value>, out: &mut Vec<Place>) {
    match (wanted, found) {
        (Some(wanted), Some(found)) if wanted == found => {}
        (Some(Value::Map(wanted)), Some(Value::Map(found))) => {
            for (name, value) in wanted {
                below(at, FieldStep::Member(name.clone()), Some(value), found.get(name), out);
            }
            for (name, value) in found.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
                below(at, FieldStep::Member(name.clone()), None, Some(value), out);
            }
        }
        (Some(Value::List(wanted)), Some(Value::List(found))) if wanted.len() == found.len() => {
            for (index, (wanted, found)) in wanted.iter().zip(found).enumerate() {
                below(at, FieldStep::Element(index), Some(wanted), Some(found), out);
            }
        }
        _ => out.push((at.clone(), wanted.cloned(), found.cloned())),
    }
}

fn below(
    at: &mut Vec<FieldStep>,
    step: FieldStep,
    wanted: Option<&Value>,
    found: Option<&Value>,
    out: &mut Vec<Place>,
) {
    at.push(step);
    differ(at, wanted, found, out);
    at.pop();
}
