//! Assembly of a unit's stream: its rows in order, turn by turn, and the rows that repeat tool calls.

use std::borrow::Cow;

use super::accounts::QuarantinedRow;
use super::datum::{Datum, Fault, RowView};
use super::emit::Origin;
use super::evaluate::{Indexed, Known, PAGE_ROWS, Parked, Run, Stop, stop, time_of};
use super::order;
use super::plan::{Assembly, OrderPart, RowClass, Scope};
use super::rows::{RowRef, SourceRow};
use super::term::{Env, Output};
use super::tools::{Fate, ToolRows};
use super::turn::{Draft, Tally, Turn};
use crate::event::{Key, Value};

impl<'a> Run<'a> {
    pub(super) fn classify(&mut self, assembly: &Assembly, handle: RowRef, row: &SourceRow) -> Result<(), Stop> {
        let view = RowView::new(&row.values);
        let env = Env { row: Some(&view), ..self.env() };
        if let Some(reason) = self.excluded(assembly.stream, row) {
            let (table, key) = (assembly.stream, row.key.clone());
            self.accounts.quarantined(QuarantinedRow { table, key, reason });
            return Ok(());
        }
        let kind = match assembly.class_by.eval(env).and_then(Datum::into_text) {
            Ok(kind) => kind,
            Err(fault) => return self.refuse(fault, Origin::Row(assembly.stream, row)),
        };
        let class = kind.as_deref().and_then(|kind| assembly.classes.get(kind)).copied();
        let Some(class) = class else {
            let (table, key, reason) = (assembly.stream, row.key.clone(), assembly.unknown.clone());
            if self.migration.quarantine_scope(&reason) == Some(Scope::Unit) {
                return Err(Stop::Park(Parked { reason, table: Some(table), key: Some(key) }));
            }
            self.accounts.quarantined(QuarantinedRow { table, key, reason });
            return Ok(());
        };
        let mut bytes = Vec::with_capacity(64);
        for part in &assembly.order {
            match part {
                OrderPart::Column(column) => {
                    order::encode(row.values.get(*column).unwrap_or(&Value::Null), &mut bytes);
                }
                OrderPart::RequestFirst => bytes.push(u8::from(class != RowClass::Request)),
            }
        }
        self.witness(time_of(row, self.migration.sources[usize::from(assembly.stream.0)].time));
        self.stream.push(Indexed { order: bytes.into(), class, row: handle });
        Ok(())
    }

    /// The second pass over the stream, turn by turn, and over the rows that repeat tool calls.
    pub(super) fn assemble(&mut self, assembly: &'a Assembly) -> Result<Known, Stop> {
        let mut index = std::mem::take(&mut self.stream);
        index.sort_unstable_by(|a, b| a.order.cmp(&b.order));
        let status = self.parent_status(assembly)?;
        let mut tools = self.tool_rows(assembly)?;
        let mut known = Known::default();
        if self.refuses() {
            return Ok(known);
        }
        let mut sequence = 0;
        for rows in turns(&index) {
            let mut turn = Turn::new(assembly, &self.migration.namespace);
            self.read_turn(assembly, rows, &mut turn, &mut known.tally)?;
            let drafts = turn
                .finish(&mut tools, status.as_deref(), &mut known.tally)
                .map_err(|fault| unplaced(fault, assembly))?;
            let request = (&*assembly.request.kind, &*assembly.request.modified);
            self.events(assembly, request, &drafts.requests, &mut sequence)?;
            let response = (&*assembly.response.kind, &*assembly.response.modified);
            let ids = self.events(assembly, response, &drafts.responses, &mut sequence)?;
            if !ids.is_empty() {
                let mut ids = ids.into_iter();
                (known.original, known.modified) = (ids.next(), ids.next());
            }
        }
        if self.refuses() {
            return Ok(known);
        }
        let tally = &known.tally;
        self.accounts.mapped(assembly.stream, tally.mapped);
        self.accounts.dropped(assembly.stream, &assembly.chunk.duplicate, tally.duplicates);
        self.accounts.dropped(assembly.stream, &assembly.completion.superseded, tally.superseded);
        self.counts.insert(assembly.chunk.conflict.clone(), tally.conflicts);
        self.record_tools(assembly, &tools)?;
        Ok(known)
    }

    fn read_turn(
        &mut self,
        assembly: &Assembly,
        rows: &[Indexed],
        turn: &mut Turn<'_>,
        tally: &mut Tally,
    ) -> Result<(), Stop> {
        let (source, time) = (self.source, self.migration.sources[usize::from(assembly.stream.0)].time);
        for page in rows.chunks(PAGE_ROWS) {
            let refs: Vec<RowRef> = page.iter().map(|indexed| indexed.row).collect();
            let mut classes = page.iter().map(|indexed| indexed.class);
            let mut end = None;
            source.fetch(&refs, &mut |_, row| {
                let (None, Some(class)) = (&end, classes.next()) else { return };
                if let Err(fault) = turn.add(class, &row.values, time_of(row, time), tally) {
                    end = self.refuse(fault, Origin::Row(assembly.stream, row)).err();
                }
            })?;
            if let Some(end) = end {
                return Err(end);
            }
        }
        Ok(())
    }

    /// Status of turns without completion: what the parent's row says, or a row without any value.
    fn parent_status(&mut self, assembly: &Assembly) -> Result<Option<String>, Stop> {
        let refs = self.handles(assembly.parent);
        let mut said = None;
        self.visit(&refs[..refs.len().min(1)], |run, row| {
            match run.status_of(assembly, &row.values) {
                Ok(status) => said = Some(status),
                Err(fault) => run.refuse(fault, Origin::Row(assembly.parent, row))?,
            }
            Ok(())
        })?;
        if let Some(status) = said {
            return Ok(status);
        }
        let blank = vec![Value::Null; self.migration.sources[usize::from(assembly.parent.0)].columns.len()];
        self.status_of(assembly, &blank).map_err(|fault| stop(fault, assembly.parent, &Key(Vec::new())))
    }

    fn status_of(&self, assembly: &Assembly, values: &[Value]) -> Result<Option<String>, Fault> {
        let view = RowView::new(values);
        let env = Env { row: Some(&view), ..self.env() };
        assembly.response.status.eval(env)?.into_text()
    }

    fn tool_rows(&mut self, assembly: &Assembly) -> Result<ToolRows, Stop> {
        let mut tools = ToolRows::default();
        let Some(plan) = &assembly.tools else { return Ok(tools) };
        self.each(plan.from, |run, row| {
            let view = RowView::new(&row.values);
            let env = Env { row: Some(&view), ..run.env() };
            tools.add(plan, env).or_else(|fault| run.refuse(fault, Origin::Row(plan.from, row)))
        })?;
        Ok(tools)
    }

    fn record_tools(&mut self, assembly: &Assembly, tools: &ToolRows) -> Result<(), Stop> {
        let Some(plan) = &assembly.tools else { return Ok(()) };
        let mut fates = tools.fates();
        self.each(plan.from, |run, row| match fates.next() {
            Some(Fate::Agrees) => {
                run.accounts.dropped(plan.from, &plan.agrees, 1);
                Ok(())
            }
            Some(Fate::SaysMore) => {
                run.accounts.mapped(plan.from, 1);
                run.emit(&plan.record, Origin::Row(plan.from, row), &[], &[]).map(drop)
            }
            Some(Fate::Filled) | None => {
                run.accounts.mapped(plan.from, 1);
                Ok(())
            }
        })
    }

    /// Writes one event or a pair, and the row that links a pair; answers with the events' ids.
    fn events(
        &mut self,
        assembly: &Assembly,
        (kind, modified): (&str, &str),
        drafts: &[Draft],
        sequence: &mut i64,
    ) -> Result<Vec<Value>, Stop> {
        let mut ids = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let outputs = [
                (Output::Type, Datum::Value(Cow::Owned(Value::text(kind)))),
                (Output::Sequence, Datum::Value(Cow::Owned(Value::Int(*sequence)))),
                (Output::Payload, Datum::Json(Cow::Borrowed(&draft.payload))),
                (Output::Time, Datum::Value(Cow::Owned(Value::Timestamp(draft.time)))),
            ];
            *sequence += 1;
            ids.extend(self.emit(&assembly.events, Origin::Shape, &outputs, &[])?);
        }
        if let ([original, changed], [_, last]) = (ids.as_slice(), drafts) {
            let outputs = [
                (Output::Type, Datum::Value(Cow::Owned(Value::text(modified)))),
                (Output::Original, Datum::Value(Cow::Borrowed(original))),
                (Output::Modified, Datum::Value(Cow::Borrowed(changed))),
                (Output::Time, Datum::Value(Cow::Owned(Value::Timestamp(last.time)))),
            ];
            self.emit(&assembly.modified, Origin::Shape, &outputs, &[])?;
        }
        Ok(ids)
    }
}

/// Cuts an ordered stream into turns: each begins at a request, but for the first, which begins with the stream.
fn turns(index: &[Indexed]) -> impl Iterator<Item = &[Indexed]> {
    let mut begun = index.first().is_some_and(|first| first.class == RowClass::Request);
    index.chunk_by(move |_, next| {
        if next.class == RowClass::Request {
            return !std::mem::replace(&mut begun, true);
        }
        true
    })
}

/// A fault of a turn, which no row of it gave alone.
fn unplaced(fault: Fault, assembly: &Assembly) -> Stop {
    match stop(fault, assembly.stream, &Key(Vec::new())) {
        Stop::Park(parked) => Stop::Park(Parked { key: None, ..parked }),
        read => read,
    }
}
