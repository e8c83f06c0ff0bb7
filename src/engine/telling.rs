//! What a comparison tells of a difference, and counts of it.

use crate::event::{Value, key_text};
use crate::reconcile::counts::Class;
use crate::reconcile::join::{Difference, Found};
use crate::reconcile::settle::Finding;
use crate::reconcile::{Field, FieldKind, Shown, Told, Writer};
use crate::rules::{Comparison, Pair};

use super::diff::RowDifference;
use super::judging::{Grounds, Judging};

impl Judging<'_> {
    /// Counts a difference, and tells of it.
    pub(super) fn tell(
        &mut self,
        found: &Found<'_>,
        finding: Finding,
        unit: Option<&str>,
        row: Option<&RowDifference>,
        take: &mut (dyn FnMut(Told<'_>) + Send),
    ) {
        let (expected, actual) = self.classes.entry((found.table, finding.class)).or_default();
        *expected += u64::from(!found.expected.is_empty());
        *actual += u64::from(!found.actual.is_empty());
        if finding.class == Class::Settled {
            return;
        }
        let Grounds { context, cut, started, .. } = self.grounds;
        let shape = &context.shapes[usize::from(found.table)];
        let pair = self.pair_of(found);
        let fields = row.map(|row| self.fields(row, pair)).unwrap_or_default();
        let writer = match (found.difference, found.actual.is_empty()) {
            (_, true) => Writer::Unknown,
            (Difference::Foreign | Difference::ForeignChanged, false) => Writer::Foreign,
            (_, false) if cut.before.is_none() => Writer::Unknown,
            (_, false) => Writer::Rehome,
        };
        take(Told {
            kind: finding.kind,
            table: &shape.name,
            key: if found.expected.is_empty() { found.actual } else { found.expected },
            unit,
            fields,
            state: finding.state,
            blame: finding.blame,
            proof: &self.proof,
            writer,
            digests: found.digests,
            started,
        });
    }

    /// The fields in which two rows differ, as the rules see them.
    fn fields(&mut self, row: &RowDifference, pair: Pair) -> Vec<Field> {
        let (Some(expected), Some(actual)) = (&row.expected, &row.actual) else { return Vec::new() };
        let rules = self.grounds.context.rules.table(row.key.table);
        let Comparison::Different(fields) = rules.compare(expected, actual, pair, &mut self.uses) else {
            return Vec::new();
        };
        let field = |field: crate::rules::FieldDifference| Field {
            // What lies below a column or an attribute has names that are contents of the row (I12).
            field: field.field.root.to_string(),
            kind: match (&field.expected, &field.actual) {
                (Some(_), None) => FieldKind::Missing,
                (None, _) => FieldKind::Extra,
                _ => FieldKind::Changed,
            },
            expected: field.expected.as_ref().map(shown),
            actual: field.actual.as_ref().map(shown),
            rule: field.waived.map(|rule| rule.0.to_string()),
        };
        let mut fields: Vec<Field> = fields.into_iter().map(field).collect();
        fields.dedup_by(|later, earlier| later.field == earlier.field);
        fields
    }
}

/// A value with its contents; who writes it down hides them unless asked.
fn shown(value: &Value) -> Shown {
    Shown::Value(key_text(std::slice::from_ref(value)))
}
