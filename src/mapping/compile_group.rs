//! Compiles `[[group]]` and the aggregates in it.

use std::ops::Range;

use super::compile::{Shaper, written};
use super::compile_term::{Compiler, Setting, Sort, Totals, Typed};
use super::plan_place::{Aggregate, AggregateKind, Each, Group, Listed, PartRule};
use super::raw;
use super::schema::{Kind, Nullable, SourceTableDef};
use super::term::{Output, Term, fits_json};

/// Outputs of a group's row.
const OF_GROUP: [(Output, Sort); 1] = [(Output::Unit, Sort::always(Kind::Text))];

impl Compiler<'_> {
    /// Compiles an aggregate.
    pub(super) fn aggregate(&mut self, form: &raw::Form, span: Range<usize>, place: Setting<'_>) -> Typed {
        let Some(mut known) = self.aggregates.take() else {
            self.problems.push(span, "there are no rows here to take together", "use it in the columns of a [[group]]");
            return None;
        };
        let compiled = self.one_aggregate(form, span, place);
        let placed = compiled.map(|(aggregate, sort)| {
            let index = known.iter().position(|known| *known == aggregate).unwrap_or(known.len());
            if index == known.len() {
                known.push(aggregate);
            }
            (Term::Aggregate(index), sort)
        });
        self.aggregates = Some(known);
        placed
    }

    fn one_aggregate(&mut self, form: &raw::Form, span: Range<usize>, place: Setting<'_>) -> Option<(Aggregate, Sort)> {
        let filter = match &form.filter {
            Some(raw) => Some(self.of_kind(raw, place, Kind::Bool)?),
            None => None,
        };
        let Some((name, raw)) = form.aggregate() else { return self.list(form, filter, place) };
        let (of, sort) = self.term(raw, place)?;
        let nullable = if filter.is_some() { Nullable::Yes } else { sort.nullable };
        let same = Sort { kind: sort.kind, nullable };
        let (kind, sort) = match name {
            "of_first" => (AggregateKind::First, same),
            "of_last" => (AggregateKind::Last, same),
            "min" | "max" => {
                if !matches!(sort.kind, Kind::Int | Kind::Timestamp | Kind::Text | Kind::Bool | Kind::Uuid) {
                    let message = format!("{} has no order here", sort.kind.word());
                    self.problems.push(raw.span(), message, "use a number, a time or a text");
                    return None;
                }
                (if name == "min" { AggregateKind::Min } else { AggregateKind::Max }, same)
            }
            "sum" => {
                let refuse = self.helper(form.refuse.as_ref(), "refuse", &span)?;
                let refuse = self.refusal(refuse, place);
                self.must_be(raw, sort, Kind::Int)?;
                (AggregateKind::Sum { refuse }, Sort::always(Kind::Int))
            }
            "any" | "all" => {
                self.must_be(raw, sort, Kind::Bool)?;
                (if name == "any" { AggregateKind::Any } else { AggregateKind::All }, Sort::always(Kind::Bool))
            }
            _ => return None,
        };
        Some((Aggregate { kind, of, filter }, sort))
    }

    fn list(&mut self, form: &raw::Form, filter: Option<Term>, place: Setting<'_>) -> Option<(Aggregate, Sort)> {
        let raw = form.list.as_ref()?;
        let (of, sort) = self.term(raw, place)?;
        if !fits_json(sort.kind) {
            let message = format!("{} has no form in JSON", sort.kind.word());
            self.problems.push(raw.span(), message, "use another column");
            return None;
        }
        let each = if form.distinct { Each::Once } else { Each::Always };
        let rows = if form.after_first { Listed::AfterFirst } else { Listed::All };
        let sort = if form.after_first { Sort::maybe(Kind::Json) } else { Sort::always(Kind::Json) };
        Some((Aggregate { kind: AggregateKind::List { each, rows }, of, filter }, sort))
    }
}

/// Compiles a group; `None` after problems were noted.
pub(super) fn compile(shaper: &mut Shaper<'_, '_>, raw: &raw::Group) -> Option<Group> {
    let (from, table) = shaper.source(&raw.from)?;
    let whole = matches!(shaper.migration.tables[usize::from(from.0)].part, PartRule::Whole);
    let by_rows = matches!(shaper.migration.tables[usize::from(from.0)].part, PartRule::Row);
    if by_rows || (!whole && !raw.by.is_empty()) {
        let fix = if by_rows { "give its group's key under [part]" } else { "take `by` out: the part is the group" };
        shaper.compiler.problems.push(raw.from.span(), "the parts of this table are no groups of this kind", fix);
        return None;
    }
    let totals = if whole { Totals::Seen } else { Totals::Unseen };
    let row = Setting { outputs: &OF_GROUP, totals, ..Setting::row(table, shaper.names) };
    let by = terms(shaper, &raw.by, row);
    let order = terms(shaper, &raw.order, row);
    decided(shaper, raw, table, &order);
    shaper.compiler.aggregates = Some(Vec::new());
    let emit = shaper.emit(&raw.to, &raw.columns, row);
    shaper.left(&raw.to, &raw.columns, &raw.left);
    let mut sums = Vec::new();
    for (name, term) in written(&raw.totals) {
        let Some(index) = shaper.names.totals.iter().position(|known| known == name.get_ref()) else {
            let known = shaper.names.totals.iter().copied();
            shaper.compiler.problems.unknown(name.span(), "total", name.get_ref(), known);
            continue;
        };
        if whole {
            let fix = "use an aggregate: this table has no parts";
            shaper.compiler.problems.push(name.span(), "only parts add to the sums of their unit", fix);
        }
        sums.extend(shaper.compiler.of_kind(term, row, Kind::Int).map(|term| (index, term)));
    }
    let aggregates = shaper.compiler.aggregates.take().unwrap_or_default();
    let migration = shaper.migration;
    let others = raw.others.as_ref().map(|name| shaper.declared(name, "reason of dropping", &migration.drop));
    Some(Group { from, by, order, others, totals: sums, aggregates, emit: emit? })
}

fn terms(shaper: &mut Shaper<'_, '_>, raw: &[raw::Placed], row: Setting<'_>) -> Vec<Term> {
    raw.iter().filter_map(|raw| Some(shaper.compiler.ordering(raw, row)?.0)).collect()
}

/// Checks that an order leaves no two rows undecided.
fn decided(shaper: &mut Shaper<'_, '_>, raw: &raw::Group, table: &SourceTableDef, order: &[Term]) {
    if order.len() == raw.order.len() && !table.key.iter().all(|key| order.contains(&Term::Column(*key))) {
        let span = raw.order.last().map_or(raw.from.span(), raw::Spanned::span);
        shaper.compiler.problems.push(span, "this order leaves rows undecided", "end it with the columns of the key");
    }
}
