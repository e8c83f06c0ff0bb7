//! Places within a row: a column or attribute, and members below it.

use std::fmt;

use crate::event::Value;

/// One step of a pattern below a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The member of this name.
    Member(Box<str>),
    /// Every member of a map, every element of a list.
    Every,
}

/// Places that a rule is about: a column of the table, and steps below it.
///
/// In a row of DynamoDB the column is that of the whole item, and the first step is the attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Index of the column.
    pub column: usize,
    /// Steps below it; none for the whole column.
    pub steps: Vec<Step>,
}

/// One step of a place below a column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldStep {
    /// A member of a map or of an object.
    Member(Box<str>),
    /// An element of a list or of an array, from 0.
    Element(usize),
}

/// A place in a row: the column or attribute that the target's definition knows, and where below it.
///
/// Shown whole as `payload.choices[0].message`. Names of members are data: what is not to reveal data shows
/// [`Field::root`] or [`Field::cluster`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Field {
    /// The column; of a DynamoDB item the attribute.
    pub root: Box<str>,
    /// Steps below it.
    pub steps: Vec<FieldStep>,
}

impl Field {
    /// The place without the numbers of elements, under which differences of many rows are one cluster.
    pub fn cluster(&self) -> String {
        let mut shown = self.root.to_string();
        for step in &self.steps {
            match step {
                FieldStep::Member(name) => {
                    shown.push('.');
                    shown.push_str(name);
                }
                FieldStep::Element(_) => shown.push_str("[]"),
            }
        }
        shown
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.root)?;
        for step in &self.steps {
            match step {
                FieldStep::Member(name) => write!(f, ".{name}")?,
                FieldStep::Element(at) => write!(f, "[{at}]")?,
            }
        }
        Ok(())
    }
}

/// Whether a place below a column is one that the steps lead to, or lies within one.
pub(super) fn covers(steps: &[Step], place: &[FieldStep]) -> bool {
    steps.len() <= place.len()
        && steps.iter().zip(place).all(|(step, at)| match (step, at) {
            (Step::Every, _) => true,
            (Step::Member(name), FieldStep::Member(found)) => name == found,
            (Step::Member(_), FieldStep::Element(_)) => false,
        })
}

/// Replaces what stands at every place that the steps lead to; absent is `None`, before and after.
///
/// An element of a list that becomes absent is taken out of it.
pub(super) fn edit(
    value: Option<Value>,
    steps: &[Step],
    change: &mut dyn FnMut(Option<Value>) -> Option<Value>,
) -> Option<Value> {
    let Some((step, rest)) = steps.split_first() else { return change(value) };
    match (value, step) {
        (Some(Value::Map(mut members)), Step::Member(name)) => {
            if let Some(changed) = edit(members.remove(name), rest, change) {
                members.insert(name.clone(), changed);
            }
            Some(Value::Map(members))
        }
        (Some(Value::Map(members)), Step::Every) => {
            let changed = |(name, member)| Some((name, edit(Some(member), rest, change)?));
            Some(Value::Map(members.into_iter().filter_map(changed).collect()))
        }
        (Some(Value::List(items)), Step::Every) => {
            Some(Value::List(items.into_iter().filter_map(|item| edit(Some(item), rest, change)).collect()))
        }
        (value, _) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Vec<Step> {
        text.split('.').map(|part| if part == "*" { Step::Every } else { Step::Member(part.into()) }).collect()
    }

    fn map(members: &[(&str, Value)]) -> Value {
        Value::Map(members.iter().map(|(name, value)| (Box::from(*name), value.clone())).collect())
    }

    #[test]
    fn steps_reach_members_and_elements_and_leave_the_rest() {
        let value = map(&[("a", Value::List(vec![map(&[("b", Value::Int(1)), ("c", Value::Int(2))]), Value::Null]))]);
        let without = edit(Some(value.clone()), &steps("a.*.b"), &mut |_| None);
        assert_eq!(without, Some(map(&[("a", Value::List(vec![map(&[("c", Value::Int(2))]), Value::Null]))])));
        assert_eq!(edit(Some(value.clone()), &steps("z"), &mut |found| found.or(Some(Value::Null))), {
            let Value::Map(mut members) = value.clone() else { unreachable!("it is a map") };
            members.insert("z".into(), Value::Null);
            Some(Value::Map(members))
        });
        assert_eq!(edit(Some(value.clone()), &steps("a.b"), &mut |_| None), Some(value));
    }

    #[test]
    fn a_place_within_a_covered_one_is_covered() {
        let place = [FieldStep::Member("a".into()), FieldStep::Element(3), FieldStep::Member("b".into())];
        assert!(covers(&[], &place) && covers(&steps("a.*"), &place) && covers(&steps("a.*.b"), &place));
        assert!(!covers(&steps("a.b"), &place) && !covers(&steps("a.*.b.c"), &place) && !covers(&steps("b"), &place));
    }
}
