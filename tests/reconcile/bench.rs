//! Two tables in memory that a mapping carries over as they are, and their comparison.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::civil::date;
use rehome::event::{
    Cell, Column, DigestKey, Epoch, Event, Flags, Key, Op, Origin, Relation, RelationName, Row, Value, Version,
};
use rehome::log::Batch;
use rehome::mapping::{Migration, SourceFile};
use rehome::reconcile::actual::Owners;
use rehome::reconcile::canary::Canaries;
use rehome::reconcile::context::{Context, Form, Naming, Paired};
use rehome::reconcile::join::Difference;
use rehome::reconcile::ledger::{self, Ledger, of_side};
use rehome::reconcile::run::{self, Outcome, Plan};
use rehome::reconcile::side::{Extent, Range, Side, Table};
use rehome::reconcile::summary::{self, Around};
use rehome::reconcile::{Class, Error, Grade, Summary};
use rehome::rules::{Ruleset, Uses};
use rehome::source::{Copied, Error as SourceError, RangeId, RangeOutcome, Snapshot};
use rehome::target::{ColumnShape, TableShape, TargetRow};
use tokio::sync::mpsc;

/// The columns of both tables.
pub const COLUMNS: [(&str, &str); 4] =
    [("id", "bigint"), ("note", "text"), ("amount", "numeric"), ("at", "timestamptz")];

/// A row of either side.
pub fn row(id: i64, note: &str) -> Vec<Value> {
    let at = rehome::event::Timestamp(1_000_000 * (id % 1_000_000));
    vec![Value::Int(id), Value::text(note), Value::Null, Value::Timestamp(at)]
}

/// Rows with ids from 1 on.
pub fn rows(count: i64) -> Vec<Vec<Value>> {
    (1..=count).map(|id| row(id, &format!("note {id}"))).collect()
}

/// What a reader does instead of reading a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It says that more rows were there than it handed over.
    Short,
    /// It ends with an error.
    Fails,
    /// It finds its snapshot gone.
    Gone,
    /// It hands everything over a second time, as one does that goes on after an error.
    Twice,
}

/// A table in memory, read by ranges.
pub struct Rows {
    pub rows: Vec<Vec<Value>>,
    pub fault: Option<(u32, Fault)>,
    /// Rows of a range.
    pub in_range: usize,
}

impl Rows {
    /// In ranges of ten rows.
    pub fn new(rows: Vec<Vec<Value>>) -> Self {
        Self { rows, fault: None, in_range: 10 }
    }
}

fn relation(name: &str) -> Arc<Relation> {
    let column = |(index, (name, type_name)): (u16, &(&str, &str))| Column {
        name: (*name).into(),
        type_name: (*type_name).into(),
        key_part: (index == 0).then_some(0),
    };
    let columns = (0..).zip(&COLUMNS).map(column).collect();
    Arc::new(Relation { name: RelationName { schema: "public".into(), table: name.into() }, columns })
}

#[async_trait]
impl Snapshot for Rows {
    async fn copy(&self, range: RangeId, out: mpsc::Sender<Batch>) -> Result<RangeOutcome, SourceError> {
        let relation = relation("t");
        let fault = self.fault.filter(|(of, _)| *of == range.0).map(|(_, fault)| fault);
        match fault {
            Some(Fault::Fails) => {
                return Err(SourceError::Unreachable { action: "read a range", reason: "it went away".into() });
            }
            Some(Fault::Gone) => return Ok(RangeOutcome::SnapshotGone),
            Some(Fault::Short | Fault::Twice) | None => {}
        }
        let from = range.0 as usize * self.in_range;
        let rows: Vec<_> = self.rows.iter().skip(from).take(self.in_range).cloned().collect();
        let copied = rows.len() as u64;
        let event = |values: Vec<Value>| Event {
            relation: relation.schema_hash(),
            op: Op::Read,
            key: Key(values[..1].to_vec()),
            old_key: None,
            before: None,
            after: Some(Row(values.into_iter().map(Cell::Value).collect())),
            version: Version::floor(Epoch(1)),
            transaction: None,
            origin: Origin::Snapshot { range: range.0 },
            flags: Flags::default(),
        };
        let mut events: Vec<Event> = rows.into_iter().map(event).collect();
        if fault == Some(Fault::Short) {
            events.pop();
        }
        let batch = Batch { relations: vec![Arc::clone(&relation)], events, ..Batch::default() };
        for _ in 0..if fault == Some(Fault::Twice) { 2 } else { 1 } {
            let sent = out.send(batch.clone()).await;
            sent.map_err(|_| SourceError::Unreachable { action: "read", reason: "gone".into() })?;
        }
        Ok(RangeOutcome::Copied(Copied { rows: copied, bytes: copied * 40 }))
    }
}

/// A side that reads rows of one table.
pub fn side(name: &'static str, rows: Rows) -> Side {
    let table = Table {
        relation: RelationName { schema: "public".into(), table: "t".into() },
        identity: String::new(),
        columns: COLUMNS.iter().map(|(name, _)| (*name).into()).collect(),
        renamed: Vec::new(),
        counted: None,
    };
    let count = u32::try_from(rows.rows.len().div_ceil(rows.in_range).max(1)).expect("few");
    let extent = |number: u32| Extent::Blocks {
        leaf: RelationName { schema: "public".into(), table: "t".into() },
        file: 1,
        from: number,
        to: (number + 1 < count).then_some(number + 1),
    };
    let range = |number| Range { id: RangeId(number), table: 0, extent: extent(number), pages: 1 };
    Side {
        name,
        snapshot: Arc::new(rows),
        tables: vec![table],
        ranges: (0..count).map(range).collect(),
        snapshot_name: format!("{name} rows"),
        position: String::new(),
        seen: None,
        taken: jiff::Timestamp::UNIX_EPOCH,
    }
}

/// A comparison to be made.
pub struct Bench {
    pub migration: Arc<Migration>,
    pub rules: Arc<Ruleset>,
    pub canaries: Canaries,
    /// How it is known which rows rehome wrote.
    pub owners: Owners,
    pub workers: usize,
    /// What rows are compared as, where that is not what the rules say.
    pub form: Option<Form>,
    /// What pairs rows whose keys differ, where that is not what the rules say.
    pub paired: Option<Paired>,
}

impl Bench {
    /// The mapping that carries rows over, without rules and canaries; nobody recorded who wrote what.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write_migration(folder.path());
        let migration = Arc::new(Migration::load(folder.path()).expect("it loads"));
        let rules = Arc::new(Ruleset::none(&migration));
        let (canaries, owners) = (Canaries::none(1), Owners::Unknown);
        Self { migration, rules, canaries, owners, workers: 2, form: None, paired: None }
    }

    /// As [`Self::new`], by rules.
    pub fn by(rules: &str) -> Self {
        let bench = Self::new();
        let file = SourceFile::new("reconcile-rules/memory.toml", format!("migration = \"memory\"\n{rules}"));
        let rules = Ruleset::read(&file, &bench.migration, date(2026, 6, 1)).unwrap_or_else(|error| panic!("{error}"));
        Self { rules: Arc::new(rules), ..bench }
    }

    /// Compares two tables.
    pub async fn compare(self, source: Vec<Vec<Value>>, target: Vec<Vec<Value>>) -> Compared {
        self.try_compare(Rows::new(source), Rows::new(target)).await.expect("it comes to its end")
    }

    /// Compares two tables whose readers may fail.
    pub async fn try_compare(self, source: Rows, target: Rows) -> Result<Compared, Error> {
        let folder = tempfile::tempdir().expect("a folder");
        self.go_on(folder.path(), source, target).await
    }

    /// As [`Self::try_compare`]; goes on from what another one left in the folder.
    pub async fn go_on(self, folder: &Path, source: Rows, target: Rows) -> Result<Compared, Error> {
        let (migration, rules, owners, workers) =
            (Arc::clone(&self.migration), Arc::clone(&self.rules), self.owners.clone(), self.workers);
        let (source, target) = (Arc::new(side("source", source)), Arc::new(side("target", target)));
        let (ledger, lines) = match folder.join(ledger::FILE).exists() {
            true => Ledger::resume(folder)?,
            false => (Ledger::begin(folder)?, Vec::new()),
        };
        let plan = Plan {
            context: self.context(),
            source: Arc::clone(&source),
            target: Arc::clone(&target),
            owners,
            given: BTreeMap::new(),
            workers,
            partitions: 4,
            ledger,
            source_kept: of_side(&source, &lines),
            target_kept: of_side(&target, &lines),
        };
        let outcome = run::run(plan, folder).await?;
        let mut found = BTreeMap::new();
        for partition in 0..outcome.found.partitions() {
            for one in outcome.found.take(partition)?.all()? {
                let locator = if one.expected.is_empty() { one.actual } else { one.expected };
                let key = <Key as rehome::event::Canonical>::decode(locator).expect("a key");
                found.insert((key.0[0].clone(), one.difference), one.waived);
            }
        }
        Ok(Compared { outcome, found, migration, rules, source, target })
    }

    /// What both sides are read with.
    pub fn context(self) -> Arc<Context> {
        let columns =
            |(name, type_name): &(&str, &str)| ColumnShape { name: (*name).into(), type_name: (*type_name).into() };
        let shape = TableShape {
            schema: "public".into(),
            name: "t_new".into(),
            columns: COLUMNS.iter().map(columns).collect(),
            key: vec![0],
        };
        let naming = Naming {
            scope_of: |unit, _| unit.as_bytes().to_vec(),
            unit_of: |scope| scope,
            as_stored: |row: TargetRow| row,
            items: false,
        };
        let key = DigestKey::new([7; 32]);
        let mut context = Context::new(self.migration, vec![shape].into(), self.rules, &key, self.canaries, naming);
        (context.form, context.paired) = (self.form, self.paired);
        Arc::new(context)
    }
}

/// What a comparison found.
pub struct Compared {
    pub outcome: Outcome,
    pub found: BTreeMap<(Value, Difference), bool>,
    pub migration: Arc<Migration>,
    pub rules: Arc<Ruleset>,
    pub source: Arc<Side>,
    pub target: Arc<Side>,
}

impl Compared {
    /// What it comes to when every difference is settled: nothing of it was real.
    pub fn summary(&self) -> Summary {
        let no_one_wants = |kind| matches!(kind, Difference::Extra | Difference::Foreign);
        let both = |kind: Difference| (u64::from(!no_one_wants(kind)), u64::from(kind != Difference::Missing));
        let mut classes: BTreeMap<(u16, Class), (u64, u64)> = BTreeMap::new();
        for ((table, kind), count) in &self.outcome.differences {
            let sides = if *kind == Difference::Duplicate { (0, 1) } else { both(*kind) };
            let (expected, actual) = classes.entry((*table, Class::Settled)).or_default();
            *expected += sides.0 * count;
            *actual += sides.1 * count;
        }
        let around = Around {
            migration: &self.migration,
            rules: &self.rules,
            uses: Uses::default(),
            classes,
            source: &self.source,
            target: &self.target,
            started: jiff::Timestamp::UNIX_EPOCH,
            finished: jiff::Timestamp::UNIX_EPOCH,
            seconds: 0,
            memory_bytes: 0,
            grade: Grade::Proven,
            log: None,
            moving: false,
            planted: true,
            root_key: [7; 32],
            read_units: None,
            throttles: 0,
        };
        summary::summary(&around, &self.outcome)
    }

    /// Panics unless exactly these differences were found.
    pub fn found_exactly(&self, expected: &[(i64, Difference)]) {
        let expected: Vec<(Value, Difference)> = expected.iter().map(|(id, kind)| (Value::Int(*id), *kind)).collect();
        let mut expected = expected;
        expected.sort();
        assert_eq!(self.found.keys().cloned().collect::<Vec<_>>(), expected);
        let counted: u64 = self.outcome.differences.values().sum();
        assert_eq!(counted, expected.len() as u64, "counts are of everything");
        assert!(self.outcome.source.balanced());
        for (wrote, took) in self.outcome.hops.values() {
            assert_eq!(wrote, took);
        }
    }
}

fn write_migration(folder: &Path) {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("writable");
    let columns: Vec<String> = COLUMNS.iter().map(|(name, type_name)| format!("{name} = \"{type_name}\"")).collect();
    let columns = columns.join("\n").replace("bigint", "bigint not null");
    write(
        "legacy.toml",
        &format!(
            "source = \"postgres\"\n\n[table.t]\nkey = [\"id\"]\nrole = \"unit\"\nunit_lookup = \"key\"\n\n[table.t.columns]\n{columns}\n"
        ),
    );
    let carried: Vec<String> = COLUMNS.iter().map(|(name, _)| format!("{name} = \".{name}\"")).collect();
    write(
        "mapping.toml",
        &format!(
            "migration = \"memory\"\nnamespace = \"0f4c2a9e-0000-5000-8000-000000000000\"\nforeign = \"row\"\n\n\
             [unit]\nt = \"id\"\n\n[quarantine]\nnot_storable = \"row\"\nunreadable_json = \"row\"\nkey_collision = \"row\"\n\n\
             [[map]]\nfrom = \"t\"\nto = \"t_new\"\ncolumns = {{ {} }}\n",
            carried.join(", ")
        ),
    );
    let ddl: Vec<String> = COLUMNS.iter().map(|(name, type_name)| format!("{name} {type_name}")).collect();
    write("target.sql", &format!("create table t_new ({}, primary key (id));\n", ddl.join(", ")));
}
