//! Answers the queries that a migration declares, from its target.

use std::collections::BTreeMap;

use crate::dynamo::target::DynamoTarget;
use crate::event::{Canonical as _, Key};
use crate::mapping::schema::Store;
use crate::mapping::{FoundRow, Query};
use crate::postgres::target::PostgresTarget;
use crate::target::{Fields, Read, Take};

use super::{Engine, Error};

/// Rows held for one answer, at most; a query that tells each value of a member once holds one row for each.
pub const ROWS_MAX: usize = 100_000;

/// What a query came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Rows, in order.
    Rows(Rows),
    /// Live tables: name, and key and indexes by name, the key's name empty; nothing where the table is not there.
    Shapes(Vec<(Box<str>, Vec<(String, String)>)>),
}

/// Rows that a query found.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Table and members of each.
    pub rows: Vec<(Box<str>, Fields)>,
    /// Rows or items that were read for them.
    pub scanned: u64,
    /// Whether there are more than are told.
    pub more: bool,
}

/// The target, as a reader has it.
enum Reader {
    Postgres(PostgresTarget),
    Dynamo(Box<DynamoTarget>),
}

/// Rows as they are found.
struct Sink<'q> {
    query: &'q Query,
    rows: Vec<FoundRow>,
    /// Places of rows by what is told once.
    seen: BTreeMap<Vec<u8>, usize>,
    more: bool,
}

impl Engine {
    /// Answers a query of the migration; `limit` tells fewer rows than the query itself would.
    ///
    /// # Errors
    /// When there is no such query, the arguments do not fit, or the target cannot be read.
    pub async fn query(&self, name: &str, arguments: &[String], limit: Option<usize>) -> Result<Reply, Error> {
        let Some(query) = self.migration.queries().iter().find(|query| query.name() == name) else {
            let known = self.migration.queries().iter().map(|query| query.name().to_owned()).collect();
            return Err(Error::NoQuery { name: name.to_owned(), known });
        };
        let reads = query.reads(arguments)?;
        let reader = self.reader().await?;
        if !query.described().is_empty() {
            return self.shapes(&reader, query).await.map(Reply::Shapes);
        }
        let mut sink = Sink { query, rows: Vec::new(), seen: BTreeMap::new(), more: false };
        let told = [limit, query.limit()].into_iter().flatten().min().unwrap_or(usize::MAX);
        let (mut scanned, mut last) = (0, None);
        for (rank, read) in &reads {
            // Rows of a higher rank come after all of these.
            if last.replace(*rank).is_some_and(|last| last != *rank) && sink.rows.len() >= told {
                sink.more |= query.limit() != Some(told);
                break;
            }
            let mut take = |fields: Fields| sink.take(FoundRow { table: read.table, fields, rank: *rank });
            scanned += reader.select(read, &mut take).await?;
        }
        let Sink { mut rows, mut more, .. } = sink;
        rows.sort_by(|one, other| query.compare(one, other));
        // What the query itself leaves out is not asked for; what the caller leaves out is.
        more |= limit.is_some_and(|limit| query.limit().is_none_or(|own| limit < own) && rows.len() > limit);
        rows.truncate(told);
        let rows = rows.iter().map(|row| (self.tables[usize::from(row.table.0)].name.clone(), query.shown(row)));
        Ok(Reply::Rows(Rows { rows: rows.collect(), scanned, more }))
    }

    async fn reader(&self) -> Result<Reader, Error> {
        Ok(match self.migration.target_store() {
            Store::Postgres => {
                // Reading needs no digests, so it needs no key of the deployment's either.
                let key = crate::event::DigestKey::new([0; 32]);
                let foreign = super::shapes::foreign_scope(&self.migration);
                let pool = self.target_server()?.pool(1);
                Reader::Postgres(PostgresTarget::new(pool, self.migration.name(), self.tables.clone(), &key, foreign))
            }
            Store::DynamoDb => Reader::Dynamo(Box::new(self.dynamo_reader().await?)),
        })
    }

    async fn shapes(&self, reader: &Reader, query: &Query) -> Result<Vec<(Box<str>, Vec<(String, String)>)>, Error> {
        let mut shapes = Vec::new();
        for &table in query.described() {
            let lines = match reader {
                Reader::Postgres(target) => target.describe(table).await?,
                Reader::Dynamo(target) => target.describe(table).await?,
            };
            shapes.push((self.tables[usize::from(table.0)].name.clone(), lines));
        }
        Ok(shapes)
    }
}

impl Reader {
    async fn select(&self, read: &Read, take: Take<'_>) -> Result<u64, Error> {
        Ok(match self {
            Reader::Postgres(target) => target.select(read, take).await?,
            Reader::Dynamo(target) => target.select(read, take).await?,
        })
    }
}

impl Sink<'_> {
    /// Takes a row; `false` when no more are held.
    fn take(&mut self, row: FoundRow) -> bool {
        let place = self.query.identity(&row).map(|value| Key(vec![value]).encode());
        match place.as_ref().and_then(|place| self.seen.get(place)) {
            Some(&at) => {
                if self.query.compare(&row, &self.rows[at]).is_lt() {
                    self.rows[at] = row;
                }
                return true;
            }
            None if self.rows.len() >= ROWS_MAX => {
                self.more = true;
                // Known values may still come in a better row.
                return place.is_some();
            }
            None => {}
        }
        if let Some(place) = place {
            self.seen.insert(place, self.rows.len());
        }
        self.rows.push(row);
        true
    }
}
