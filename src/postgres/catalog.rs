//! What a table is: its [`Relation`], how its columns are read, and where its rows lie.
//!
//! The stream describes relations too, but tells neither the order of a key's columns nor, under `REPLICA IDENTITY FULL`,
//! which columns are the key. Both descriptions therefore go through this catalog, and give the same hash.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::codec::Kind;
use super::error::sql;
use super::pgoutput::RelationMessage;
use crate::event::{Column, Relation, RelationName, SchemaHash};
use crate::source::Error;

/// How a table's rows are told apart in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// By the primary key.
    Default,
    /// By an index named for it.
    Index,
    /// By the whole old row.
    Full,
    /// Not at all: the server refuses updates and deletes of a published table.
    Nothing,
}

impl Identity {
    /// As `pg_class` writes it.
    pub(super) fn of(code: &str) -> Self {
        match code {
            "i" => Identity::Index,
            "f" => Identity::Full,
            "n" => Identity::Nothing,
            _ => Identity::Default,
        }
    }
}

/// A type as the catalog knows it; a domain is known by the type under it, in whose form its values travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeFacts {
    /// Name without schema.
    pub name: Box<str>,
    /// How its values are read.
    pub kind: Kind,
    /// Whether it has a cast to `text` of its own, which may write something else than the type's output does (`inet` adds `/32`,
    /// `xml` keeps an encoding).
    pub own_cast: bool,
}

/// A table's shape together with how to read its values.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The shape that events refer to.
    pub relation: Arc<Relation>,
    /// Its hash.
    pub hash: SchemaHash,
    /// A type for each column.
    pub types: Arc<[TypeFacts]>,
    /// Indexes of the key's columns, in the order of the key.
    pub key: Arc<[usize]>,
}

/// A table, or the root of a partitioned one.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its OID.
    pub oid: u32,
    /// Shape and key.
    pub shape: Shape,
    /// How rows are told apart.
    pub identity: Identity,
    /// Whether it is partitioned.
    pub partitioned: bool,
    /// Whether its changes are written to the WAL: false for unlogged and temporary tables.
    pub logged: bool,
    /// When its primary key is checked.
    pub checked: Checked,
}

/// When a table's primary key is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// At each statement, or there is none.
    AtOnce,
    /// At the end of a transaction, when that asks for it: the stream does not tell rows apart by it.
    Deferrable,
}

/// A table that holds rows itself: an ordinary table or a leaf partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its OID.
    pub oid: u32,
    /// Its name.
    pub name: RelationName,
    /// Number of the file that its rows lie in; a rewrite changes it.
    pub filenode: u32,
    /// Blocks of its main fork.
    pub blocks: u32,
    /// Bytes with its TOAST table.
    pub bytes: u64,
}

/// Reads a table; `None` when there is no table, view or partitioned table of that name that rows can be copied from.
///
/// # Errors
/// When the server cannot be asked.
pub async fn table(connection: &mut PgConnection, name: &RelationName) -> Result<Option<Table>, Error> {
    const ACTION: &str = "read a table's shape";
    let found = sqlx::query(
        "select c.oid::int8 as oid, c.relkind::text as kind, c.relpersistence::text as persistence, \
         c.relreplident::text as identity, exists ( \
           select from pg_index i where i.indrelid = c.oid and i.indisprimary and not i.indimmediate) as deferrable \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p')",
    )
    .bind(&*name.schema)
    .bind(&*name.table)
    .fetch_optional(&mut *connection)
    .await
    .map_err(sql(ACTION))?;
    let Some(row) = found else { return Ok(None) };
    let text = |column: &str| row.try_get::<String, _>(column).map_err(sql(ACTION));
    let oid = oid_of(row.try_get("oid").map_err(sql(ACTION))?)?;
    let identity = Identity::of(&text("identity")?);
    let (partitioned, logged) = (text("kind")? == "p", text("persistence")? == "p");
    let deferrable: bool = row.try_get("deferrable").map_err(sql(ACTION))?;
    let checked = if deferrable { Checked::Deferrable } else { Checked::AtOnce };
    let columns = columns(connection, oid).await?;
    let oids: Vec<u32> = columns.iter().map(|(_, type_oid)| *type_oid).collect();
    let types = types(connection, &oids).await?;
    let key = key(connection, oid).await?;
    let shape = shape(name.clone(), &columns, &types, &key);
    Ok(Some(Table { oid, shape, identity, partitioned, logged, checked }))
}

/// Those of some tables that are there.
///
/// # Errors
/// When the server cannot be asked.
pub async fn present(connection: &mut PgConnection, names: &[RelationName]) -> Result<Vec<RelationName>, Error> {
    let found = "select n.nspname::text as schema, c.relname::text as name \
                 from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                 join unnest($1::text[], $2::text[]) as wanted (schema, name) \
                   on wanted.schema = n.nspname and wanted.name = c.relname where c.relkind in ('r', 'p')";
    let part = |of: fn(&RelationName) -> &str| names.iter().map(|name| of(name).to_owned()).collect::<Vec<_>>();
    named(sqlx::query(found).bind(part(|name| &name.schema)).bind(part(|name| &name.table)), connection).await
}

/// Tables of some schemas, partitions left out, in order of name.
///
/// # Errors
/// When the server cannot be asked.
pub async fn tables_of(connection: &mut PgConnection, schemas: &[String]) -> Result<Vec<RelationName>, Error> {
    let found = "select n.nspname::text as schema, c.relname::text as name \
                 from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                 where n.nspname = any($1) and c.relkind in ('r', 'p') and not c.relispartition order by 1, 2";
    named(sqlx::query(found).bind(schemas), connection).await
}

async fn named(
    query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    connection: &mut PgConnection,
) -> Result<Vec<RelationName>, Error> {
    const ACTION: &str = "list tables";
    let rows = query.fetch_all(connection).await.map_err(sql(ACTION))?;
    let name = |row: &sqlx::postgres::PgRow| {
        let text = |column: &str| row.try_get::<String, _>(column).map_err(sql(ACTION));
        Ok(RelationName { schema: text("schema")?.into(), table: text("name")?.into() })
    };
    rows.iter().map(name).collect()
}

/// The shape that a relation message describes, with the types and the key's order taken from the catalog.
///
/// The catalog may already be ahead of the stream. Where its key is not made of the columns that the message marks, the
/// marks stand, in the order of the columns.
///
/// # Errors
/// When the server cannot be asked.
pub async fn relation_from_pgoutput(connection: &mut PgConnection, message: &RelationMessage) -> Result<Shape, Error> {
    let name = RelationName { schema: message.schema.as_str().into(), table: message.table.as_str().into() };
    let columns: Vec<(String, u32)> =
        message.columns.iter().map(|column| (column.name.clone(), column.type_oid)).collect();
    let oids: Vec<u32> = columns.iter().map(|(_, type_oid)| *type_oid).collect();
    let types = types(connection, &oids).await?;
    let known = key(connection, message.oid).await?;
    Ok(shape(name, &columns, &types, &key_of_message(message, known)))
}

/// Decides which columns of a relation message are the key.
fn key_of_message(message: &RelationMessage, known: Vec<String>) -> Vec<String> {
    let marked: Vec<&str> =
        message.columns.iter().filter(|column| column.identity).map(|column| column.name.as_str()).collect();
    let all = marked.len() == message.columns.len();
    let present = known.iter().all(|name| marked.contains(&name.as_str()));
    if !known.is_empty() && present && (all || known.len() == marked.len()) {
        return known;
    }
    marked.into_iter().map(str::to_owned).collect()
}

/// The tables that hold the rows of `oid`: itself, or its leaf partitions.
///
/// # Errors
/// When the server cannot be asked.
pub async fn leaves(connection: &mut PgConnection, oid: u32) -> Result<Vec<Leaf>, Error> {
    const ACTION: &str = "read a table's partitions";
    let rows = rows_of(
        connection,
        oid,
        ACTION,
        "with tree as (select $1::oid as relid where not exists \
                         (select from pg_partitioned_table where partrelid = $1::oid) \
                       union select relid::oid from pg_partition_tree($1::oid::regclass) where isleaf) \
         select c.oid::int8 as oid, n.nspname::text as schema, c.relname::text as name, \
                pg_relation_filenode(c.oid)::int8 as filenode, \
                pg_relation_size(c.oid) / current_setting('block_size')::int8 as blocks, \
                pg_table_size(c.oid) as bytes \
         from tree join pg_class c on c.oid = tree.relid join pg_namespace n on n.oid = c.relnamespace \
         where c.relkind = 'r' order by c.oid",
    )
    .await?;
    rows.iter()
        .map(|row| {
            let number = |column: &str| {
                row.try_get::<Option<i64>, _>(column).map_err(sql(ACTION)).map(|value| value.unwrap_or(0))
            };
            let text = |column: &str| row.try_get::<String, _>(column).map_err(sql(ACTION));
            Ok(Leaf {
                oid: oid_of(number("oid")?)?,
                name: RelationName { schema: text("schema")?.into(), table: text("name")?.into() },
                filenode: oid_of(number("filenode")?)?,
                blocks: oid_of(number("blocks")?)?,
                bytes: u64::try_from(number("bytes")?).unwrap_or(0),
            })
        })
        .collect()
}

/// Rows of a table with its partitions, as the server estimated them last; `None` when it never did.
///
/// # Errors
/// When the server cannot be asked.
pub async fn rows_about(connection: &mut PgConnection, oid: u32) -> Result<Option<u64>, Error> {
    let rows: Option<f64> = sqlx::query_scalar(
        "select case when bool_and(c.reltuples >= 0) then sum(c.reltuples)::float8 end \
         from (select $1::oid as relid where not exists (select from pg_partitioned_table where partrelid = $1::oid) \
               union select relid::oid from pg_partition_tree($1::oid::regclass) where isleaf) as leaf \
         join pg_class c on c.oid = leaf.relid",
    )
    .bind(sqlx::postgres::types::Oid(oid))
    .fetch_one(connection)
    .await
    .map_err(sql("estimate the rows of a table"))?;
    // A float that does not fit is cut to the type's ends.
    Ok(rows.map(|rows| rows as u64))
}

/// Names and types of a table's columns that the stream carries: no dropped ones, no generated ones (P8).
async fn columns(connection: &mut PgConnection, oid: u32) -> Result<Vec<(String, u32)>, Error> {
    const ACTION: &str = "read a table's columns";
    let rows = rows_of(
        connection,
        oid,
        ACTION,
        "select attname::text as name, atttypid::int8 as type_oid from pg_attribute \
         where attrelid = $1 and attnum > 0 and not attisdropped and attgenerated = '' order by attnum",
    )
    .await?;
    rows.iter()
        .map(|row| {
            let type_oid = oid_of(row.try_get("type_oid").map_err(sql(ACTION))?)?;
            Ok((row.try_get("name").map_err(sql(ACTION))?, type_oid))
        })
        .collect()
}

/// Reads the key's columns of the row `c` of `pg_class`, in the order of its index: the replica identity's index where one is named,
/// else the primary key.
///
/// A deferrable one is none: the server does not tell rows apart by it, and within a transaction two rows may have one key.
pub(super) const KEY_COLUMNS: &str = "select a.attname::text from pg_index i \
         cross join lateral unnest(i.indkey::int2[]) with ordinality as part(attnum, place) \
         join pg_attribute a on a.attrelid = i.indrelid and a.attnum = part.attnum \
         where i.indrelid = c.oid and part.place <= i.indnkeyatts and i.indisvalid and i.indimmediate \
           and case c.relreplident when 'i' then i.indisreplident else i.indisprimary end \
         order by part.place";

/// What a statement about a relation answers; its OID is the only argument.
pub(super) async fn rows_of(
    connection: &mut PgConnection,
    oid: u32,
    action: &'static str,
    statement: &str,
) -> Result<Vec<PgRow>, Error> {
    let query = sqlx::query(AssertSqlSafe(statement)).bind(sqlx::postgres::types::Oid(oid));
    query.fetch_all(connection).await.map_err(sql(action))
}

/// The key's columns of a table.
async fn key(connection: &mut PgConnection, oid: u32) -> Result<Vec<String>, Error> {
    const ACTION: &str = "read a table's key";
    let statement = format!("select unnest(array({KEY_COLUMNS})) from pg_class c where c.oid = $1");
    sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(sqlx::postgres::types::Oid(oid))
        .fetch_all(&mut *connection)
        .await
        .map_err(sql(ACTION))
}

/// Reads types by OID, domains resolved down to the type they are made of.
async fn types(connection: &mut PgConnection, oids: &[u32]) -> Result<HashMap<u32, TypeFacts>, Error> {
    const ACTION: &str = "read column types";
    let oids: Vec<sqlx::postgres::types::Oid> = oids.iter().map(|oid| sqlx::postgres::types::Oid(*oid)).collect();
    let rows = sqlx::query(
        "with recursive chain as ( \
           select oid as start, oid, typname, typtype, typbasetype from pg_type where oid = any($1) \
           union all \
           select chain.start, t.oid, t.typname, t.typtype, t.typbasetype \
           from chain join pg_type t on t.oid = chain.typbasetype where chain.typtype = 'd') \
         select start::int8 as start, oid::int8 as base, typname::text as name, exists ( \
             select from pg_cast where castsource = chain.oid and casttarget = 'text'::regtype and castmethod in ('f', 'b')) \
           as own_cast \
         from chain where typtype <> 'd'",
    )
    .bind(oids)
    .fetch_all(&mut *connection)
    .await
    .map_err(sql(ACTION))?;
    rows.iter()
        .map(|row| {
            let base = oid_of(row.try_get("base").map_err(sql(ACTION))?)?;
            let facts = TypeFacts {
                name: row.try_get::<String, _>("name").map_err(sql(ACTION))?.into(),
                kind: Kind::of(base),
                own_cast: row.try_get("own_cast").map_err(sql(ACTION))?,
            };
            Ok((oid_of(row.try_get("start").map_err(sql(ACTION))?)?, facts))
        })
        .collect()
}

/// Puts a shape together. A type that is gone from the catalog (dropped since the stream spoke of it) is read as text
/// under its OID.
fn shape(name: RelationName, columns: &[(String, u32)], types: &HashMap<u32, TypeFacts>, key: &[String]) -> Shape {
    let facts: Arc<[TypeFacts]> = columns
        .iter()
        .map(|(_, oid)| {
            types.get(oid).cloned().unwrap_or_else(|| TypeFacts {
                name: oid.to_string().into(),
                kind: Kind::of(*oid),
                own_cast: false,
            })
        })
        .collect();
    let columns = columns
        .iter()
        .zip(&*facts)
        .map(|((column, _), facts)| Column {
            name: column.as_str().into(),
            type_name: facts.name.clone(),
            key_part: key.iter().position(|part| part == column).and_then(|part| u16::try_from(part).ok()),
        })
        .collect();
    let relation = Relation { name, columns };
    let key = relation.key_columns().into();
    Shape { hash: relation.schema_hash(), relation: Arc::new(relation), types: facts, key }
}

/// An OID, file number or block count, all unsigned 32-bit on the server and read as `int8`.
pub(super) fn oid_of(value: i64) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_| super::error::unreadable("read the catalog", "a number out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::pgoutput::ColumnMessage;

    fn message(columns: &[(&str, bool)]) -> RelationMessage {
        let columns = columns
            .iter()
            .map(|(name, identity)| ColumnMessage { identity: *identity, name: (*name).into(), type_oid: 25 })
            .collect();
        RelationMessage { oid: 1, schema: "public".into(), table: "t".into(), columns }
    }

    #[test]
    fn the_keys_order_comes_from_the_catalog() {
        let known = vec!["b".to_owned(), "a".to_owned()];
        assert_eq!(key_of_message(&message(&[("a", true), ("b", true), ("c", false)]), known.clone()), known);
        assert_eq!(key_of_message(&message(&[("a", true), ("b", true), ("c", true)]), known.clone()), known);
    }

    #[test]
    fn a_catalog_ahead_of_the_stream_does_not_change_the_streams_key() {
        let known = vec!["d".to_owned()];
        assert_eq!(key_of_message(&message(&[("a", true), ("b", false)]), known), ["a"]);
        assert_eq!(key_of_message(&message(&[("a", true), ("b", false)]), vec!["a".into(), "b".into()]), ["a"]);
    }
}
