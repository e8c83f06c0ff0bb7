//! The pure function of a migration: the rows of a unit in, its target rows and the account of every row out (I5, I7).
//!
//! Two passes. The first keeps what orders the rows, and their handles; the second reads them turn by turn in pages, so
//! that a unit of half a million chunks needs the memory of its order, of one page, and of what it becomes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use super::accounts::{Accounts, QuarantinedRow};
use super::compile::reason;
use super::error::ReadError;
use super::order;
use super::place::{Look, Part};
use super::plan::{Assembly, Emit, Migration, OrderPart, RowClass, RowMap, Scope};
use super::rows::{RowRef, SourceRow, UnitRows};
use super::schema::SourceTable;
use super::term::{Datum, Env, Fault, Output, RowView};
use super::tools::{Fate, ToolRows};
use super::turn::{Draft, Tally, Turn};
use crate::event::{Key, Timestamp, Value};
use crate::target::TargetRow;

/// Rows fetched at once by the second pass: enough to hide a store's latency, a few megabytes of chunks.
const PAGE_ROWS: usize = 1_000;

/// What a part's rows come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// The part's target rows, parents first; none when it is parked.
    pub rows: Vec<TargetRow>,
    /// What became of every source row.
    pub accounts: Accounts,
    /// What the mapping counts, without zeros.
    pub counts: BTreeMap<Box<str>, u64>,
    /// What this part adds to each of its unit's sums; empty when nothing.
    pub totals: Vec<i128>,
    /// Why the whole part is quarantined, if it is.
    pub parked: Option<Parked>,
}

/// Why a whole unit is quarantined (I6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The reason.
    pub reason: Box<str>,
    /// Table of the row that gave it, if one did.
    pub table: Option<SourceTable>,
    /// Key of that row.
    pub key: Option<Key>,
}

/// Evaluates one part of a unit.
///
/// `rows` are those of the part; `totals` the unit's sums over all of its other parts' [`Evaluation::totals`], which only
/// [`Part::Whole`] reads.
///
/// Deterministic: the same rows give the same evaluation, in whatever order they are visited.
///
/// # Errors
/// [`ReadError`] when the rows cannot be read; what is wrong with a row is part of the evaluation.
pub fn evaluate(
    migration: &Migration,
    unit: &str,
    part: &Part,
    rows: &dyn UnitRows,
    _look: &dyn Look,
    _totals: &[i128],
) -> Result<Evaluation, ReadError> {
    debug_assert_eq!(*part, Part::Whole, "no table declares parts yet");
    let mut run = Run::new(migration, unit, rows);
    match run.whole() {
        Ok(()) => {
            run.rows.sort_by_key(|row| row.table);
            run.counts.retain(|_, count| *count > 0);
            Ok(Evaluation {
                rows: run.rows,
                accounts: run.accounts,
                counts: run.counts,
                totals: Vec::new(),
                parked: None,
            })
        }
        Err(Stop::Read(error)) => Err(error),
        Err(Stop::Park(parked)) => {
            run.accounts.park(&parked.reason);
            Ok(Evaluation {
                rows: Vec::new(),
                accounts: run.accounts,
                counts: BTreeMap::new(),
                totals: Vec::new(),
                parked: Some(parked),
            })
        }
    }
}

/// Why an evaluation ends early.
enum Stop {
    Read(ReadError),
    Park(Parked),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Stop::Read(error)
    }
}

/// A row's place in the order of its table.
struct Indexed {
    order: Box<[u8]>,
    class: RowClass,
    row: RowRef,
}

/// A row's place in the order of a table without turns.
type Placed = (Box<[u8]>, RowRef);

/// What the assembly tells the row maps.
#[derive(Default)]
struct Known {
    tally: Tally,
    original: Option<Value>,
    modified: Option<Value>,
}

struct Run<'a> {
    migration: &'a Migration,
    unit: Value,
    source: &'a dyn UnitRows,
    rows: Vec<TargetRow>,
    accounts: Accounts,
    counts: BTreeMap<Box<str>, u64>,
    /// Handles by table, in order of the key; the stream's are in `stream`.
    index: BTreeMap<SourceTable, Vec<Placed>>,
    stream: Vec<Indexed>,
    earliest: Option<Timestamp>,
    keys: HashSet<[u8; 32]>,
}

fn park(fault: Fault, table: SourceTable, key: &Key) -> Parked {
    let reason = match fault {
        Fault::NotStorable => reason::NOT_STORABLE,
        Fault::Unreadable => reason::UNREADABLE,
    };
    Parked { reason: reason.into(), table: Some(table), key: Some(key.clone()) }
}

fn time_of(row: &SourceRow, column: usize) -> Timestamp {
    match row.values.get(column) {
        Some(Value::Timestamp(time)) => *time,
        // A row without a time is behind no other: the latest there can be.
        _ => Timestamp::INFINITY,
    }
}

impl<'a> Run<'a> {
    fn new(migration: &'a Migration, unit: &str, source: &'a dyn UnitRows) -> Self {
        Self {
            migration,
            unit: Value::text(unit),
            source,
            rows: Vec::new(),
            accounts: Accounts::default(),
            counts: BTreeMap::new(),
            index: BTreeMap::new(),
            stream: Vec::new(),
            earliest: None,
            keys: HashSet::new(),
        }
    }

    fn whole(&mut self) -> Result<(), Stop> {
        let tables = u16::try_from(self.migration.sources.len()).unwrap_or(u16::MAX);
        for table in (0..tables).map(SourceTable) {
            self.accounts.tables.insert(table, Default::default());
            self.scan(table)?;
        }
        let known = match &self.migration.assembly {
            Some(assembly) => self.assemble(assembly)?,
            None => Known::default(),
        };
        for map in &self.migration.maps {
            self.map(map, &known)?;
        }
        debug_assert!(self.accounts.balanced());
        Ok(())
    }

    /// The first pass over one table.
    fn scan(&mut self, table: SourceTable) -> Result<(), Stop> {
        let def = &self.migration.sources[usize::from(table.0)];
        let assembly = self.migration.assembly.as_ref();
        let stream = assembly.filter(|assembly| assembly.stream == table);
        let source = self.source;
        let mut stop = None;
        source.scan(table, &mut |handle, row| {
            self.accounts.read(table);
            let time = time_of(row, def.time);
            let Some(assembly) = stream else {
                self.witness(time);
                let mut order = Vec::new();
                order::encode(row.values.get(def.time).unwrap_or(&Value::Null), &mut order);
                row.key.0.iter().for_each(|value| order::encode(value, &mut order));
                self.index.entry(table).or_default().push((order.into(), handle));
                return;
            };
            if stop.is_none()
                && let Err(found) = self.classify(assembly, handle, row)
            {
                stop = Some(found);
            }
        })?;
        if let Some(stop) = stop {
            // The rest of the tables is read all the same: every row of a parked unit is accounted for.
            self.count_rest(table)?;
            return Err(Stop::Park(stop));
        }
        self.index.entry(table).or_default().sort_unstable();
        Ok(())
    }

    /// Notes the time of a row that is not quarantined: only such rows make a call up, and date it.
    fn witness(&mut self, time: Timestamp) {
        self.earliest = Some(self.earliest.map_or(time, |earliest| earliest.min(time)));
    }

    fn count_rest(&mut self, after: SourceTable) -> Result<(), Stop> {
        let tables = u16::try_from(self.migration.sources.len()).unwrap_or(u16::MAX);
        for table in (after.0 + 1..tables).map(SourceTable) {
            self.accounts.tables.insert(table, Default::default());
            self.source.scan(table, &mut |_, _| self.accounts.read(table))?;
        }
        Ok(())
    }

    fn classify(&mut self, assembly: &Assembly, handle: RowRef, row: &SourceRow) -> Result<(), Parked> {
        let view = RowView::new(&row.values);
        let env = Env { row: Some(&view), outputs: &[], namespace: &self.migration.namespace };
        let kind = assembly.class_by.eval(env).map_err(|fault| park(fault, assembly.stream, &row.key))?.into_text();
        let class = kind.as_deref().and_then(|kind| assembly.classes.get(kind)).copied();
        let Some(class) = class else {
            let (table, key, reason) = (assembly.stream, row.key.clone(), assembly.unknown.clone());
            if self.migration.quarantine_scope(&reason) == Some(Scope::Unit) {
                return Err(Parked { reason, table: Some(table), key: Some(key) });
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
    fn assemble(&mut self, assembly: &'a Assembly) -> Result<Known, Stop> {
        let mut index = std::mem::take(&mut self.stream);
        index.sort_unstable_by(|a, b| a.order.cmp(&b.order));
        let status = self.parent_status(assembly)?;
        let mut tools = self.tool_rows(assembly)?;
        let mut known = Known::default();
        let mut sequence = 0;
        for rows in turns(&index) {
            let mut turn = Turn::new(assembly, &self.migration.namespace);
            self.read_turn(assembly, rows, &mut turn, &mut known.tally)?;
            let drafts = turn
                .finish(&mut tools, status.as_deref(), &mut known.tally)
                .map_err(|fault| Stop::Park(self.park_turn(fault, assembly)))?;
            let request = (&*assembly.request.kind, &*assembly.request.modified);
            self.events(assembly, request, &drafts.requests, &mut sequence)?;
            let response = (&*assembly.response.kind, &*assembly.response.modified);
            let ids = self.events(assembly, response, &drafts.responses, &mut sequence)?;
            if !ids.is_empty() {
                let mut ids = ids.into_iter();
                (known.original, known.modified) = (ids.next(), ids.next());
            }
        }
        let tally = &known.tally;
        self.accounts.mapped(assembly.stream, tally.mapped);
        self.accounts.dropped(assembly.stream, &assembly.chunk.duplicate, tally.duplicates);
        self.accounts.dropped(assembly.stream, &assembly.completion.superseded, tally.superseded);
        self.counts.insert(assembly.chunk.conflict.clone(), tally.conflicts);
        self.record_tools(assembly, &tools)?;
        Ok(known)
    }

    fn park_turn(&self, fault: Fault, assembly: &Assembly) -> Parked {
        Parked { key: None, ..park(fault, assembly.stream, &Key(Vec::new())) }
    }

    fn read_turn(
        &self,
        assembly: &Assembly,
        rows: &[Indexed],
        turn: &mut Turn<'_>,
        tally: &mut Tally,
    ) -> Result<(), Stop> {
        let time = self.migration.sources[usize::from(assembly.stream.0)].time;
        for page in rows.chunks(PAGE_ROWS) {
            let refs: Vec<RowRef> = page.iter().map(|indexed| indexed.row).collect();
            let mut classes = page.iter().map(|indexed| indexed.class);
            let mut stop = None;
            self.source.fetch(&refs, &mut |_, row| {
                let (None, Some(class)) = (&stop, classes.next()) else { return };
                if let Err(fault) = turn.add(class, &row.values, time_of(row, time), tally) {
                    stop = Some(park(fault, assembly.stream, &row.key));
                }
            })?;
            if let Some(parked) = stop {
                return Err(Stop::Park(parked));
            }
        }
        Ok(())
    }

    /// Status of turns without completion: what the parent's row says, or a row without any value.
    fn parent_status(&self, assembly: &Assembly) -> Result<Option<String>, Stop> {
        let refs = self.handles(assembly.parent);
        let blank = vec![Value::Null; self.migration.sources[usize::from(assembly.parent.0)].columns.len()];
        let blank = SourceRow { key: Key(Vec::new()), values: blank };
        let mut status = self.status_of(assembly, &blank).map_err(Stop::Park)?;
        let mut stop = None;
        self.source.fetch(&refs[..refs.len().min(1)], &mut |_, row| match self.status_of(assembly, row) {
            Ok(found) => status = found,
            Err(parked) => stop = Some(parked),
        })?;
        match stop {
            Some(parked) => Err(Stop::Park(parked)),
            None => Ok(status),
        }
    }

    fn status_of(&self, assembly: &Assembly, row: &SourceRow) -> Result<Option<String>, Parked> {
        let view = RowView::new(&row.values);
        let env = Env { row: Some(&view), outputs: &[], namespace: &self.migration.namespace };
        let status = assembly.response.status.eval(env).map_err(|fault| park(fault, assembly.parent, &row.key))?;
        Ok(status.into_text())
    }

    fn handles(&self, table: SourceTable) -> Vec<RowRef> {
        self.index.get(&table).into_iter().flatten().map(|(_, handle)| *handle).collect()
    }

    /// Visits every row of a table in order, and stops at the first that cannot be evaluated.
    fn each(
        &mut self,
        table: SourceTable,
        mut visit: impl FnMut(&mut Self, &SourceRow) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let refs = self.handles(table);
        let source = self.source;
        for page in refs.chunks(PAGE_ROWS) {
            let mut stop = None;
            source.fetch(page, &mut |_, row| {
                if stop.is_none() {
                    stop = visit(self, row).err();
                }
            })?;
            if let Some(stop) = stop {
                return Err(stop);
            }
        }
        Ok(())
    }

    fn tool_rows(&mut self, assembly: &Assembly) -> Result<ToolRows, Stop> {
        let mut tools = ToolRows::default();
        let Some(plan) = &assembly.tools else { return Ok(tools) };
        self.each(plan.from, |run, row| {
            let view = RowView::new(&row.values);
            let env = Env { row: Some(&view), outputs: &[], namespace: &run.migration.namespace };
            tools.add(plan, env).map_err(|fault| Stop::Park(park(fault, plan.from, &row.key)))
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
                run.emit(&plan.record, Some((plan.from, row)), &[]).map(drop)
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
            ids.extend(self.emit(&assembly.events, None, &outputs)?);
        }
        if let ([original, changed], [_, last]) = (ids.as_slice(), drafts) {
            let outputs = [
                (Output::Type, Datum::Value(Cow::Owned(Value::text(modified)))),
                (Output::Original, Datum::Value(Cow::Borrowed(original))),
                (Output::Modified, Datum::Value(Cow::Borrowed(changed))),
                (Output::Time, Datum::Value(Cow::Owned(Value::Timestamp(last.time)))),
            ];
            self.emit(&assembly.modified, None, &outputs)?;
        }
        Ok(ids)
    }

    /// A row map over all rows of its table.
    fn map(&mut self, map: &RowMap, known: &Known) -> Result<(), Stop> {
        let json =
            |json: &Option<crate::event::Json>| json.clone().map_or(Datum::NULL, |json| Datum::Json(Cow::Owned(json)));
        let value = |value: &Option<Value>| Datum::Value(Cow::Owned(value.clone().unwrap_or(Value::Null)));
        let status = known.tally.status.as_deref().map(Value::text);
        let outputs = [
            (Output::RequestModel, json(&known.tally.request_model)),
            (Output::ChunkModel, json(&known.tally.chunk_model)),
            (Output::CompletionStatus, value(&status)),
            (Output::ResponseOriginal, value(&known.original)),
            (Output::ResponseModified, value(&known.modified)),
        ];
        let found = self.index.get(&map.from).is_some_and(|rows| !rows.is_empty());
        self.each(map.from, |run, row| {
            run.accounts.mapped(map.from, 1);
            run.emit(&map.emit, Some((map.from, row)), &outputs).map(drop)
        })?;
        let (false, Some(made), Some(earliest)) = (found, &map.synthesise, self.earliest) else { return Ok(()) };
        let given = [
            (Output::Unit, Datum::Value(Cow::Owned(self.unit.clone()))),
            (Output::Earliest, Datum::Value(Cow::Owned(Value::Timestamp(earliest)))),
        ];
        let mut values = vec![Value::Null; self.migration.sources[usize::from(map.from.0)].columns.len()];
        let key = Key(Vec::new());
        for (column, term) in &made.values {
            let env = Env { row: None, outputs: &given, namespace: &self.migration.namespace };
            let datum = term.eval(env).and_then(Datum::into_value);
            values[*column] = datum.map_err(|fault| Stop::Park(park(fault, map.from, &key)))?;
        }
        *self.counts.entry(made.count.clone()).or_default() += 1;
        self.emit(&map.emit, Some((map.from, &SourceRow { key, values })), &outputs).map(drop)
    }

    /// Writes one target row; answers with the value of its key when that is a single column.
    fn emit(
        &mut self,
        emit: &Emit,
        row: Option<(SourceTable, &SourceRow)>,
        outputs: &[(Output, Datum<'_>)],
    ) -> Result<Option<Value>, Stop> {
        let unit = self.unit.clone();
        let mut all: Vec<(Output, Datum<'_>)> = vec![(Output::Unit, Datum::Value(Cow::Owned(unit)))];
        all.extend(outputs.iter().cloned());
        let blame = |fault: Fault| {
            Stop::Park(match row {
                Some((table, row)) => park(fault, table, &row.key),
                None => Parked { table: None, key: None, ..park(fault, SourceTable(0), &Key(Vec::new())) },
            })
        };
        let view = row.map(|(_, row)| RowView::new(&row.values));
        let env = Env { row: view.as_ref(), outputs: &all, namespace: &self.migration.namespace };
        let mut values = Vec::with_capacity(emit.terms.len());
        for term in &emit.terms {
            let datum = match term {
                Some(term) => term.eval(env).map_err(blame)?,
                None => Datum::NULL,
            };
            values.push(datum.into_value().map_err(blame)?);
        }
        let table = &self.migration.targets[usize::from(emit.table.0)];
        let mut bytes = emit.table.0.to_be_bytes().to_vec();
        table.key.iter().for_each(|column| order::encode(&values[*column], &mut bytes));
        if !self.keys.insert(*blake3::hash(&bytes).as_bytes()) {
            let reason = reason::KEY_COLLISION.into();
            return Err(Stop::Park(Parked {
                reason,
                table: row.map(|(table, _)| table),
                key: row.map(|(_, row)| row.key.clone()),
            }));
        }
        let id = match table.key.as_slice() {
            [only] => Some(values[*only].clone()),
            _ => None,
        };
        self.rows.push(TargetRow { table: emit.table, values });
        Ok(id)
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
