//! The legacy side of a comparison: rows of one unit, and the names of all units, as the live source has them now.

use std::collections::{BTreeMap, BTreeSet};

use crate::dynamo;
use crate::dynamo::live::{self as items, Find};
use crate::dynamo::table::{Table, describe};
use crate::event::{Lsn, Row, Value};
use crate::mapping::schema::{Presence, Role, Store, UnitLookup};
use crate::mapping::{Condition, SourceTable, UnitRead};
use crate::postgres::live::{self, LiveTable, Wanted};
use crate::postgres::{PgPool, catalog};
use crate::project::source::{Layout, arrange};
use crate::source::{Absence, Finding, Severity};

use super::files::Rows;
use super::look::corpus;
use super::unit::UNITS_AT_ONCE;
use super::witness::Reading;
use super::{Engine, Error};

/// The live source, as comparisons read it.
pub(super) struct Legacy<'a> {
    engine: &'a Engine,
    live: Live,
    /// Which source tables are read from it, in their order: an optional one that is not there has no rows, and one that a
    /// file stands for has the file's.
    there: Vec<bool>,
    /// Rows of tables that files stand for, by place.
    files: BTreeMap<usize, Rows>,
}

/// The store that it is.
enum Live {
    Postgres(PgPool),
    /// With what each table is; none for one that is not there.
    Dynamo(dynamo::Server, Vec<Option<Table>>),
}

/// A table that has to be read whole to find the rows of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeTable {
    /// The table.
    pub table: String,
    /// Its items, about.
    pub items: u64,
    /// Its bytes, about.
    pub bytes: u64,
    /// Read units that one reading takes, about.
    pub read_units: u64,
}

impl<'a> Legacy<'a> {
    /// Opens the live source.
    pub(super) async fn open(engine: &'a Engine) -> Result<Self, Error> {
        let files = engine.rows_of_files().await?;
        let (live, mut there) = match engine.migration.source_store() {
            Store::Postgres => postgres(engine).await?,
            Store::DynamoDb => dynamo(engine).await?,
        };
        for place in files.keys() {
            there[*place] = false;
        }
        Ok(Self { engine, live, there, files })
    }

    /// Everything that the source holds now was written before this position; a DynamoDB table tells none.
    pub(super) async fn position(&self) -> Result<Option<Lsn>, Error> {
        match &self.live {
            Live::Postgres(pool) => Ok(Some(live::read_unit(pool, &[]).await?.position)),
            Live::Dynamo(..) => Ok(None),
        }
    }

    /// Tables that have to be read whole to find a unit's rows; a Postgres server says by itself what a query costs.
    pub(super) fn whole_tables(&self, unit: &str) -> Vec<WholeTable> {
        let Live::Dynamo(_, tables) = &self.live else { return Vec::new() };
        let mut found = Vec::new();
        for (place, find) in self.finds(unit, tables, &mut |_, _| vec![None]) {
            let Some(table) = &tables[place] else { continue };
            found.extend(find.units(table).map(|read_units| WholeTable {
                table: self.engine.sources[place].label.to_string(),
                items: table.items,
                bytes: table.bytes,
                read_units,
            }));
        }
        found
    }

    /// The unit's rows in the source, with those of lookup tables; maybe more, which placing tells apart.
    pub(super) async fn read(&self, unit: &str) -> Result<Reading, Error> {
        match &self.live {
            Live::Postgres(pool) => self.read_rows(pool, unit).await,
            Live::Dynamo(server, tables) => self.read_items(server, tables, unit).await,
        }
    }

    /// Every row of a source that is read item by item; `None` of one that has snapshots, whose units are read alone.
    pub(super) async fn all_items(&self) -> Result<Option<Reading>, Error> {
        let Live::Dynamo(server, tables) = &self.live else { return Ok(None) };
        let mut rows = self.of_files();
        for (place, table) in tables.iter().enumerate().filter(|(place, _)| self.there[*place]) {
            let Some(table) = table else { continue };
            rows[place] = self.arranged(place, items::read(server, &table.shape, &Find::All).await?);
        }
        Ok(Some(Reading { position: None, rows }))
    }

    /// The units that the source's rows name.
    pub(super) async fn units(&self) -> Result<BTreeSet<String>, Error> {
        let everything = match &self.live {
            Live::Dynamo(..) => self.all_items().await?.unwrap_or_else(|| self.placed(None, Vec::new(), Vec::new())),
            Live::Postgres(pool) => {
                let tables =
                    || self.engine.migration.source_tables().iter().zip(&*self.engine.sources).zip(&self.there);
                let tables = || tables().filter(|(_, there)| **there).map(|(table, _)| table);
                let named =
                    tables().filter_map(|(table, source)| Some((&source.relation, &*source.columns[table.unit?].0)));
                let units = live::list_units(pool, &named.collect::<Vec<_>>()).await?;
                // Where a unit's name is made of several columns, the rows themselves have to be read to know it.
                if tables().all(|(table, _)| table.unit.is_some() || table.role == Role::Lookup) {
                    return Ok(units.into_iter().collect());
                }
                let places: Vec<usize> = (0..self.there.len()).filter(|place| self.there[*place]).collect();
                let asked: Vec<_> = places.iter().map(|place| (self.table(index(*place)), Vec::new())).collect();
                let read = live::read_unit(pool, &asked).await?;
                self.placed(Some(read.position), places, read.rows)
            }
        };
        Ok(corpus(&self.engine.migration, &everything)?.units().map(str::to_owned).collect())
    }

    async fn read_rows(&self, pool: &PgPool, unit: &str) -> Result<Reading, Error> {
        let tables = self.engine.migration.source_tables();
        let column = |table: SourceTable, name: &str| tables[usize::from(table.0)].column(name).unwrap_or_default();
        let reads = self.reads(unit);
        let mut places: Vec<usize> = reads.iter().map(|read| usize::from(read.table.0)).collect();
        let wanted = |read: &UnitRead<'_>| -> Vec<Wanted> {
            let wanted = read.conditions.iter().map(|condition| match condition {
                Condition::Is { column: name, values } => Wanted::Is {
                    column: column(read.table, name),
                    values: values.iter().map(|value| value.as_deref().map(str::to_owned)).collect(),
                },
                // Without the parent's table no row has a parent.
                Condition::OfParent { column: name, parent, .. } if !self.there[usize::from(parent.0)] => {
                    Wanted::Is { column: column(read.table, name), values: Vec::new() }
                }
                Condition::OfParent { column: name, parent, parent_column } => Wanted::OfRows {
                    column: column(read.table, name),
                    table: places.iter().position(|place| *place == usize::from(parent.0)).unwrap_or_default(),
                    of_column: column(*parent, parent_column),
                },
            });
            wanted.collect()
        };
        let mut asked: Vec<_> = reads.iter().map(|read| (self.table(read.table), wanted(read))).collect();
        for place in self.lookups() {
            asked.push((self.table(index(place)), Vec::new()));
            places.push(place);
        }
        let read = live::read_unit(pool, &asked).await?;
        Ok(self.placed(Some(read.position), places, read.rows))
    }

    async fn read_items(
        &self,
        server: &dynamo::Server,
        tables: &[Option<Table>],
        unit: &str,
    ) -> Result<Reading, Error> {
        let mut rows = self.of_files();
        for read in self.reads(unit) {
            let place = usize::from(read.table.0);
            let Some(table) = &tables[place] else { continue };
            let find = self.find(&read, table, &mut |parent, column| texts_of(&rows[parent], column));
            rows[place] = self.arranged(place, items::read(server, &table.shape, &find).await?);
        }
        for place in self.lookups() {
            let Some(table) = &tables[place] else { continue };
            rows[place] = self.arranged(place, items::read(server, &table.shape, &Find::All).await?);
        }
        Ok(Reading { position: None, rows })
    }

    /// How the items of a unit are found, table by table; `parent` gives the texts in a column of a parent's rows.
    fn finds(
        &self,
        unit: &str,
        tables: &[Option<Table>],
        parent: &mut dyn FnMut(usize, usize) -> Vec<Option<Box<str>>>,
    ) -> Vec<(usize, Find)> {
        let mut finds = Vec::new();
        for read in self.reads(unit) {
            let place = usize::from(read.table.0);
            finds.extend(tables[place].as_ref().map(|table| (place, self.find(&read, table, parent))));
        }
        finds.extend(self.lookups().map(|place| (place, Find::All)));
        finds
    }

    /// How the items of a unit are found in one table.
    fn find(
        &self,
        read: &UnitRead<'_>,
        table: &Table,
        parent: &mut dyn FnMut(usize, usize) -> Vec<Option<Box<str>>>,
    ) -> Find {
        let tables = self.engine.migration.source_tables();
        let index = match read.lookup {
            UnitLookup::Key => None,
            UnitLookup::Index(name) => Some(&**name),
            UnitLookup::Scan => return Find::All,
        };
        let finds = read.conditions.iter().map(|condition| {
            let (name, texts) = match condition {
                Condition::Is { column, values } => (*column, values.clone()),
                Condition::OfParent { column, parent: of, parent_column } => {
                    let of = usize::from(of.0);
                    (*column, parent(of, tables[of].column(parent_column).unwrap_or_default()))
                }
            };
            // Key attributes may have another name in the live table.
            let live = read.def.column(name).map_or(name, |column| &read.def.live[column]);
            Find::by(table, live, &texts, index)
        });
        let found: Vec<Find> = finds.collect();
        found.into_iter().find(|find| *find != Find::All).unwrap_or(Find::All)
    }

    /// How the unit's rows are read from tables that are there.
    fn reads<'m>(&'m self, unit: &'m str) -> Vec<UnitRead<'m>> {
        let mut reads = self.engine.migration.unit_reads(unit);
        reads.retain(|read| self.there[usize::from(read.table.0)]);
        reads
    }

    /// Lookups that are there: any row may ask for theirs, so all of them are read.
    fn lookups(&self) -> impl Iterator<Item = usize> {
        let tables = self.engine.migration.source_tables().iter().enumerate();
        tables.filter(|(place, table)| table.role == Role::Lookup && self.there[*place]).map(|(place, _)| place)
    }

    /// Items as rows of the mapping.
    fn arranged(&self, place: usize, found: items::Rows) -> Rows {
        let source = &self.engine.sources[place];
        let layout = Layout { columns: (0..source.columns.len()).collect(), renamed: source.renamed.clone() };
        let values = |row: Row| row.0.into_iter().map(|cell| cell.value().cloned().unwrap_or(Value::Null)).collect();
        found.into_values().map(|row| values(arrange(row, &layout))).collect()
    }

    fn placed(&self, position: Option<Lsn>, places: Vec<usize>, found: Vec<Rows>) -> Reading {
        let mut rows = self.of_files();
        for (place, found) in places.into_iter().zip(found) {
            rows[place] = found;
        }
        Reading { position, rows }
    }

    /// Rows by place, those of files alone.
    fn of_files(&self) -> Vec<Rows> {
        (0..self.there.len()).map(|place| self.files.get(&place).cloned().unwrap_or_default()).collect()
    }

    fn table(&self, table: SourceTable) -> LiveTable {
        let source = &self.engine.sources[usize::from(table.0)];
        LiveTable { relation: source.relation.clone(), columns: source.columns.clone() }
    }
}

/// A session with a Postgres source, and which of its tables are there.
async fn postgres(engine: &Engine) -> Result<(Live, Vec<bool>), Error> {
    let server = engine.source()?;
    let optional = engine.captured().filter(|(_, absence)| *absence == Absence::Skipped);
    let optional: Vec<_> = optional.map(|(source, _)| source.relation.clone()).collect();
    let found = if optional.is_empty() {
        Vec::new()
    } else {
        catalog::present(&mut server.connect().await?, &optional).await?
    };
    let names = engine.sources.iter().map(|source| &source.relation);
    let there = names.map(|name| !optional.contains(name) || found.contains(name)).collect();
    Ok((Live::Postgres(server.pool(UNITS_AT_ONCE)), there))
}

/// Clients of a DynamoDB source, and which of its tables are there.
async fn dynamo(engine: &Engine) -> Result<(Live, Vec<bool>), Error> {
    let server = engine.source_tables().await?;
    let mut tables = Vec::new();
    for (place, source) in engine.sources.iter().enumerate() {
        if engine.by_file(place) {
            tables.push(None);
            continue;
        }
        let table = describe(&server, &source.relation.table).await?;
        let required = engine.migration.source_tables()[place].presence == Presence::Required;
        if table.is_none() && required {
            return Err(Error::NotReady(vec![Finding {
                what: "there is no such table".to_owned(),
                place: format!("table {}", source.relation),
                fix: "correct its name, the region or the endpoint".to_owned(),
                severity: Severity::Error,
            }]));
        }
        tables.push(table);
    }
    let there = tables.iter().map(Option::is_some).collect();
    Ok((Live::Dynamo(server, tables), there))
}

/// The texts in a column of some rows, each once.
fn texts_of(rows: &Rows, column: usize) -> Vec<Option<Box<str>>> {
    let texts: BTreeSet<_> = rows.iter().filter_map(|row| items::key_text(row.get(column)?)).collect();
    texts.into_iter().map(Some).collect()
}

/// A place among the source tables as the mapping counts them.
fn index(place: usize) -> SourceTable {
    SourceTable(u16::try_from(place).expect("a migration has fewer than 65,536 tables"))
}
