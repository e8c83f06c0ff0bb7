//! What a definition of a table would say: columns with their types in full, indexes, foreign keys. For who writes the first
//! draft of a migration; nothing else needs more than the [`catalog`] tells.

use std::collections::BTreeSet;

use sqlx::{PgConnection, Row as _};

use super::catalog::{self, Table};
use super::error::sql;
use crate::event::RelationName;
use crate::source::Error;

/// A table as its definition would have it.
#[derive(Debug, Clone)]
pub struct Described {
    /// Schema and name.
    pub name: RelationName,
    /// Shape, key and identity.
    pub table: Table,
    /// All columns in order, those that the server computes too.
    pub columns: Vec<DescribedColumn>,
    /// Valid indexes beside the primary key.
    pub indexes: Vec<DescribedIndex>,
    /// Foreign keys.
    pub foreign_keys: Vec<DescribedReference>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedColumn {
    /// Its name.
    pub name: Box<str>,
    /// The catalog's name of its type; of a domain, that of the type under it.
    pub type_name: Box<str>,
    /// What stands in parentheses behind the type, with them: `(10,2)`; empty where nothing does.
    pub modifier: Box<str>,
    /// Whether it may not be NULL.
    pub not_null: bool,
    /// How the server computes it; `None` for a column that is written.
    pub generated: Option<Box<str>>,
    /// Whether the server numbers its rows.
    pub identity: bool,
    /// The labels of an enum in their order; none for any other type.
    pub labels: Vec<Box<str>>,
    /// Schema of the type.
    pub type_schema: Box<str>,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedIndex {
    /// Whether no two rows may have the same key in it.
    pub unique: bool,
    /// Its columns, where it is a plain one over all rows; `None` for any other.
    pub columns: Option<Vec<Box<str>>>,
    /// Its definition.
    pub definition: Box<str>,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedReference {
    /// Columns here.
    pub columns: Vec<Box<str>>,
    /// The table referred to.
    pub table: RelationName,
    /// Columns there.
    pub referred: Vec<Box<str>>,
}

/// Describes a table; `None` when there is no such table.
///
/// # Errors
/// When the server cannot be asked.
pub async fn describe(connection: &mut PgConnection, name: &RelationName) -> Result<Option<Described>, Error> {
    let Some(table) = catalog::table(connection, name).await? else { return Ok(None) };
    Ok(Some(Described {
        name: name.clone(),
        columns: columns(connection, table.oid).await?,
        indexes: indexes(connection, table.oid).await?,
        foreign_keys: foreign_keys(connection, table.oid).await?,
        table,
    }))
}

/// Names of all tables that people made, partitions left out, in order: not the server's own, not an extension's, not rehome's.
///
/// # Errors
/// When the server cannot be asked.
pub async fn tables(connection: &mut PgConnection) -> Result<Vec<RelationName>, Error> {
    const ACTION: &str = "list tables";
    let rows = sqlx::query(
        "select n.nspname::text as schema, c.relname::text as name \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't' \
           and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'rehome') \
           and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e') \
         order by 1, 2",
    )
    .fetch_all(connection)
    .await
    .map_err(sql(ACTION))?;
    let name = |row: &sqlx::postgres::PgRow| Ok(relation(text(row, "schema", ACTION)?, text(row, "name", ACTION)?));
    rows.iter().map(name).collect()
}

/// Words that are no names unless they are quoted.
///
/// # Errors
/// When the server cannot be asked.
pub async fn reserved_words(connection: &mut PgConnection) -> Result<BTreeSet<String>, Error> {
    let words: Vec<String> = sqlx::query_scalar("select word from pg_get_keywords() where catcode <> 'U'")
        .fetch_all(connection)
        .await
        .map_err(sql("ask for reserved words"))?;
    Ok(words.into_iter().collect())
}

async fn columns(connection: &mut PgConnection, oid: u32) -> Result<Vec<DescribedColumn>, Error> {
    const ACTION: &str = "describe a table's columns";
    let rows = sqlx::query(
        "with recursive chain as ( \
           select a.attnum, t.oid, t.typname, t.typnamespace, t.typtype, t.typbasetype \
           from pg_attribute a join pg_type t on t.oid = a.atttypid \
           where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped \
           union all \
           select chain.attnum, t.oid, t.typname, t.typnamespace, t.typtype, t.typbasetype \
           from chain join pg_type t on t.oid = chain.typbasetype where chain.typtype = 'd') \
         select a.attname::text as name, b.typname::text as type_name, n.nspname::text as type_schema, \
           case when b.oid = a.atttypid then coalesce(substring(format_type(a.atttypid, a.atttypmod) from '\\(.*\\)'), '') \
             else '' end as modifier, \
           a.attnotnull as not_null, a.attidentity <> '' as identity, \
           case when a.attgenerated <> '' then coalesce(pg_get_expr(d.adbin, d.adrelid), '') end as generated, \
           array(select e.enumlabel::text from pg_enum e where e.enumtypid = b.oid order by e.enumsortorder) as labels \
         from pg_attribute a join chain b on b.attnum = a.attnum and b.typtype <> 'd' \
         join pg_namespace n on n.oid = b.typnamespace \
         left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum \
         where a.attrelid = $1 order by a.attnum",
    )
    .bind(sqlx::postgres::types::Oid(oid))
    .fetch_all(connection)
    .await
    .map_err(sql(ACTION))?;
    let column = |row: &sqlx::postgres::PgRow| {
        let generated: Option<String> = row.try_get("generated").map_err(sql(ACTION))?;
        Ok(DescribedColumn {
            name: text(row, "name", ACTION)?,
            type_name: text(row, "type_name", ACTION)?,
            modifier: text(row, "modifier", ACTION)?,
            not_null: row.try_get("not_null").map_err(sql(ACTION))?,
            generated: generated.map(Into::into),
            identity: row.try_get("identity").map_err(sql(ACTION))?,
            labels: texts(row, "labels", ACTION)?,
            type_schema: text(row, "type_schema", ACTION)?,
        })
    };
    rows.iter().map(column).collect()
}

async fn indexes(connection: &mut PgConnection, oid: u32) -> Result<Vec<DescribedIndex>, Error> {
    const ACTION: &str = "describe a table's indexes";
    let rows = sqlx::query(
        "select i.indisunique as is_unique, pg_get_indexdef(i.indexrelid) as definition, \
           i.indpred is null and i.indexprs is null and m.amname = 'btree' and i.indnkeyatts = i.indnatts \
             and not exists (select from unnest(i.indoption::int2[]) o where o <> 0) \
             and not exists (select from unnest(i.indclass::oid[]) u join pg_opclass o on o.oid = u where not o.opcdefault) \
             as plain, \
           array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality as part(attnum, place) \
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = part.attnum order by part.place) as columns \
         from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am m on m.oid = c.relam \
         where i.indrelid = $1 and i.indisvalid and not i.indisprimary order by c.relname",
    )
    .bind(sqlx::postgres::types::Oid(oid))
    .fetch_all(connection)
    .await
    .map_err(sql(ACTION))?;
    let index = |row: &sqlx::postgres::PgRow| {
        let plain: bool = row.try_get("plain").map_err(sql(ACTION))?;
        Ok(DescribedIndex {
            unique: row.try_get("is_unique").map_err(sql(ACTION))?,
            columns: if plain { Some(texts(row, "columns", ACTION)?) } else { None },
            definition: text(row, "definition", ACTION)?,
        })
    };
    rows.iter().map(index).collect()
}

async fn foreign_keys(connection: &mut PgConnection, oid: u32) -> Result<Vec<DescribedReference>, Error> {
    const ACTION: &str = "describe a table's foreign keys";
    let rows = sqlx::query(
        "select n.nspname::text as schema, r.relname::text as name, \
           array(select a.attname::text from unnest(c.conkey) with ordinality as part(attnum, place) \
             join pg_attribute a on a.attrelid = c.conrelid and a.attnum = part.attnum order by part.place) as columns, \
           array(select a.attname::text from unnest(c.confkey) with ordinality as part(attnum, place) \
             join pg_attribute a on a.attrelid = c.confrelid and a.attnum = part.attnum order by part.place) as referred \
         from pg_constraint c join pg_class r on r.oid = c.confrelid join pg_namespace n on n.oid = r.relnamespace \
         where c.conrelid = $1 and c.contype = 'f' and c.conparentid = 0 order by c.conname",
    )
    .bind(sqlx::postgres::types::Oid(oid))
    .fetch_all(connection)
    .await
    .map_err(sql(ACTION))?;
    let reference = |row: &sqlx::postgres::PgRow| {
        Ok(DescribedReference {
            columns: texts(row, "columns", ACTION)?,
            table: relation(text(row, "schema", ACTION)?, text(row, "name", ACTION)?),
            referred: texts(row, "referred", ACTION)?,
        })
    };
    rows.iter().map(reference).collect()
}

fn relation(schema: Box<str>, table: Box<str>) -> RelationName {
    RelationName { schema, table }
}

fn text(row: &sqlx::postgres::PgRow, column: &str, action: &'static str) -> Result<Box<str>, Error> {
    row.try_get::<String, _>(column).map(Into::into).map_err(sql(action))
}

fn texts(row: &sqlx::postgres::PgRow, column: &str, action: &'static str) -> Result<Vec<Box<str>>, Error> {
    let texts: Vec<String> = row.try_get(column).map_err(sql(action))?;
    Ok(texts.into_iter().map(Into::into).collect())
}
