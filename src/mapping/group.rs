//! Groups: rows of one key, read in order, become one row.

use std::borrow::Cow;

use super::datum::{Datum, Fault, RowView};
use super::emit::Origin;
use super::evaluate::{Run, Stop, stop};
use super::order;
use super::plan_place::{Aggregate, AggregateKind, Each, Group, Listed};
use super::rows::{RowRef, SourceRow};
use super::schema::Store;
use super::term::{Env, Output, Term};
use crate::event::{Json, Value};

/// A row of a group: bytes that order as its group does, then as it does within.
type Ordered = (Box<[u8]>, Box<[u8]>, RowRef);

impl Run<'_> {
    /// All groups of one kind.
    pub(super) fn group(&mut self, group: &Group) -> Result<(), Stop> {
        let refs = self.handles(group.from);
        let mut ordered: Vec<Ordered> = Vec::with_capacity(refs.len());
        let (mut handles, store) = (refs.iter(), self.migration.target_store);
        self.visit(&refs, |run, row| {
            let view = RowView::new(&row.values);
            let env = Env { row: Some(&view), ..run.env() };
            let bytes = encoded(&group.by, env, store).and_then(|by| Ok((by, encoded(&group.order, env, store)?)));
            match (bytes, handles.next()) {
                (Ok((by, order)), Some(handle)) => ordered.push((by, order, *handle)),
                (Err(fault), _) => run.refuse(fault, Origin::Row(group.from, row))?,
                (Ok(_), None) => {}
            }
            Ok(())
        })?;
        ordered.sort_unstable();
        for rows in ordered.chunk_by(|one, next| one.0 == next.0) {
            self.one_group(group, rows)?;
        }
        Ok(())
    }

    fn one_group(&mut self, group: &Group, rows: &[Ordered]) -> Result<(), Stop> {
        let refs: Vec<RowRef> = rows.iter().map(|(_, _, handle)| *handle).collect();
        let mut folds: Vec<Fold<'_>> =
            group.aggregates.iter().map(|plan| Fold::new(plan, self.migration.target_store)).collect();
        let mut first: Option<SourceRow> = None;
        self.visit(&refs, |run, row| {
            let view = RowView::new(&row.values);
            let unit = [(Output::Unit, Datum::Value(Cow::Owned(run.unit.clone())))];
            let env = Env { row: Some(&view), outputs: &unit, ..run.env() };
            for fold in &mut folds {
                if let Err(fault) = fold.add(env) {
                    run.refuse(fault, Origin::Row(group.from, row))?;
                }
            }
            first.get_or_insert_with(|| row.clone());
            Ok(())
        })?;
        let Some(first) = first else { return Ok(()) };
        let origin = Origin::Group(group.from, &first);
        let mut aggregates = Vec::with_capacity(folds.len());
        for fold in folds {
            match fold.end() {
                Ok(datum) => aggregates.push(datum),
                Err(fault) => return self.refuse(fault, origin),
            }
        }
        if let Some(reason) = &group.others {
            self.accounts.mapped(group.from, 1);
            self.accounts.dropped(group.from, reason, rows.len() as u64 - 1);
        }
        self.emit(&group.emit, origin, &[], &aggregates)?;
        self.add_totals(group, &first, &aggregates)
    }

    fn add_totals(&mut self, group: &Group, first: &SourceRow, aggregates: &[Datum<'_>]) -> Result<(), Stop> {
        let view = RowView::new(&first.values);
        for (index, term) in &group.totals {
            let unit = [(Output::Unit, Datum::Value(Cow::Owned(self.unit.clone())))];
            let env = Env { row: Some(&view), outputs: &unit, aggregates, ..self.env() };
            let added = term.eval(env).map_err(|fault| stop(fault, group.from, &first.key))?;
            self.totals[*index] += i128::from(added.to_i64().unwrap_or_default());
        }
        Ok(())
    }
}

/// Bytes that order as the values of terms do, one after the other.
fn encoded(terms: &[Term], env: Env<'_>, store: Store) -> Result<Box<[u8]>, Fault> {
    let mut bytes = Vec::new();
    for term in terms {
        order::encode(&term.eval(env)?.into_held(store)?, &mut bytes);
    }
    Ok(bytes.into())
}

/// An aggregate while its rows come in, in order.
struct Fold<'a> {
    plan: &'a Aggregate,
    /// Of the target, which must hold what comes of it.
    store: Store,
    rows: u64,
    /// The value so far, for all but sums and lists.
    value: Option<Value>,
    sum: i128,
    list: Vec<Json>,
}

impl<'a> Fold<'a> {
    fn new(plan: &'a Aggregate, store: Store) -> Self {
        Self { plan, store, rows: 0, value: None, sum: 0, list: Vec::new() }
    }

    fn add(&mut self, env: Env<'_>) -> Result<(), Fault> {
        if let Some(filter) = &self.plan.filter
            && !filter.holds(env)?
        {
            return Ok(());
        }
        self.rows += 1;
        let datum = self.plan.of.eval(env)?;
        match &self.plan.kind {
            AggregateKind::First if self.rows > 1 => {}
            AggregateKind::First | AggregateKind::Last => self.value = Some(datum.into_held(self.store)?),
            AggregateKind::Min | AggregateKind::Max | AggregateKind::Any | AggregateKind::All if datum.null() => {}
            AggregateKind::Min | AggregateKind::All => {
                let value = datum.into_held(self.store)?;
                self.value = Some(self.value.take().map_or(value.clone(), |known| known.min(value)));
            }
            AggregateKind::Max | AggregateKind::Any => {
                let value = datum.into_held(self.store)?;
                self.value = Some(self.value.take().map_or(value.clone(), |known| known.max(value)));
            }
            AggregateKind::Sum { .. } => self.sum += i128::from(datum.to_i64().unwrap_or_default()),
            AggregateKind::List { each, rows } => {
                let left_out = *rows == Listed::AfterFirst && self.rows == 1;
                if let (false, Some(json)) = (left_out, datum.into_json()) {
                    let known = *each == Each::Once && self.list.iter().any(|known| known.same(&json));
                    if !known {
                        self.list.push(json);
                    }
                }
            }
        }
        Ok(())
    }

    fn end(self) -> Result<Datum<'static>, Fault> {
        let value = match &self.plan.kind {
            AggregateKind::Any => self.value.unwrap_or(Value::Bool(false)),
            AggregateKind::All => self.value.unwrap_or(Value::Bool(true)),
            AggregateKind::Sum { refuse } => {
                Value::Int(i64::try_from(self.sum).map_err(|_| Fault::Refused(refuse.clone()))?)
            }
            AggregateKind::List { rows: Listed::AfterFirst, .. } if self.rows < 2 => Value::Null,
            AggregateKind::List { .. } => return Ok(Datum::Json(Cow::Owned(Json::Array(self.list)))),
            _ => return Datum::kept(self.value.unwrap_or(Value::Null)),
        };
        Ok(Datum::Value(Cow::Owned(value)))
    }
}
