//! The statements of the target, built from the shapes of its tables; every identifier quoted by one function.

use crate::postgres::codec::Kind;
use crate::postgres::copy::output_form;
use crate::postgres::quote;
use crate::target::{ColumnShape, TableShape};

/// `schema.table`, quoted.
pub fn table_name(shape: &TableShape) -> String {
    format!("{}.{}", quote(&shape.schema), quote(&shape.name))
}

fn list(columns: impl Iterator<Item = String>) -> String {
    columns.collect::<Vec<_>>().join(", ")
}

/// `unnest($1::text[], …) AS x(c0, …)`: a set of rows sent as one array of texts per column.
fn rows_argument(count: usize) -> String {
    rows_argument_as("x", 1, count)
}

/// As [`rows_argument`], under another name and from another argument on.
fn rows_argument_as(name: &str, first: usize, count: usize) -> String {
    let arrays = list((first..first + count).map(|index| format!("${index}::text[]")));
    let names = list((0..count).map(|index| format!("c{index}")));
    format!("unnest({arrays}) WITH ORDINALITY AS {name}({names}, ord)")
}

fn typed(shape: &TableShape, column: usize, argument: usize) -> String {
    typed_in("x", shape, column, argument)
}

fn typed_in(rows: &str, shape: &TableShape, column: usize, argument: usize) -> String {
    format!("{rows}.c{argument}::{}", type_reference(shape, &shape.columns[column].type_name))
}

/// The server's own types; every other type (an enum, a domain) is in the schema of its table.
const OWN_TYPES: &[&str] = &[
    "bool",
    "int2",
    "int4",
    "int8",
    "numeric",
    "float4",
    "float8",
    "text",
    "varchar",
    "bpchar",
    "char",
    "name",
    "bytea",
    "timestamp",
    "timestamptz",
    "date",
    "time",
    "timetz",
    "interval",
    "uuid",
    "json",
    "jsonb",
    "xml",
    "inet",
    "cidr",
    "macaddr",
    "money",
    "bit",
    "varbit",
    "oid",
    "point",
    "int4range",
    "int8range",
    "numrange",
    "tsrange",
    "tstzrange",
    "daterange",
    "tsvector",
];

/// A type's name as it reads where no schema is searched but the server's own.
pub fn type_reference(shape: &TableShape, type_name: &str) -> String {
    let element = type_name.strip_prefix('_').unwrap_or(type_name);
    if OWN_TYPES.contains(&element) {
        return quote(type_name);
    }
    format!("{}.{}", quote(&shape.schema), quote(type_name))
}

/// Inserts rows that must not exist yet; arguments: one text array for each column.
pub fn insert(shape: &TableShape) -> String {
    let columns = list(shape.columns.iter().map(|column| quote(&column.name)));
    let values = list((0..shape.columns.len()).map(|index| typed(shape, index, index)));
    let source = rows_argument(shape.columns.len());
    format!("INSERT INTO {} ({columns}) SELECT {values} FROM {source}", table_name(shape))
}

/// Takes rows that must not exist yet as a stream of text; with [`BINARY`] behind it, in binary form.
pub fn copy(shape: &TableShape) -> String {
    let columns = list(shape.columns.iter().map(|column| quote(&column.name)));
    format!("COPY {} ({columns}) FROM STDIN", table_name(shape))
}

/// Behind [`copy`]: the stream is in binary form.
pub const BINARY: &str = " (FORMAT binary)";

/// Writes rows that are ours whether they are still there or not; arguments as for [`insert`].
pub fn upsert(shape: &TableShape) -> String {
    let key = list(shape.key.iter().map(|&index| quote(&shape.columns[index].name)));
    let others = (0..shape.columns.len()).filter(|index| !shape.key.contains(index));
    let set = list(others.map(|index| {
        let name = quote(&shape.columns[index].name);
        format!("{name} = EXCLUDED.{name}")
    }));
    let action = if set.is_empty() { "DO NOTHING".to_owned() } else { format!("DO UPDATE SET {set}") };
    format!("{} ON CONFLICT ({key}) {action}", insert(shape))
}

fn join_on_key(shape: &TableShape) -> String {
    join_on_key_of("t", "x", shape)
}

/// The condition that a row of a table has the key that a row of an argument names.
fn join_on_key_of(table: &str, rows: &str, shape: &TableShape) -> String {
    let conditions = shape.key.iter().enumerate().map(|(argument, &index)| {
        format!("{table}.{} = {}", quote(&shape.columns[index].name), typed_in(rows, shape, index, argument))
    });
    conditions.collect::<Vec<_>>().join(" AND ")
}

/// Deletes rows by key; arguments: one text array for each key column.
pub fn delete(shape: &TableShape) -> String {
    let source = rows_argument(shape.key.len());
    format!("DELETE FROM {} AS t USING {source} WHERE {}", table_name(shape), join_on_key(shape))
}

/// Locks rows by key against everything, new references to them too; arguments as for [`delete`].
pub fn lock(shape: &TableShape) -> String {
    let source = rows_argument(shape.key.len());
    format!("SELECT 1 FROM {} AS t JOIN {source} ON {} FOR UPDATE OF t", table_name(shape), join_on_key(shape))
}

/// Counts the rows of some keys; arguments as for [`delete`].
pub fn count(shape: &TableShape) -> String {
    let source = rows_argument(shape.key.len());
    format!("SELECT count(*) FROM {} AS t JOIN {source} ON {}", table_name(shape), join_on_key(shape))
}

/// A column of a table as its type's output writes it, as whole tables are read and sources tell of it: for `char(n)`, `inet` and
/// types that nobody here knows, a cast to text may be another.
pub fn output(table: &str, column: &ColumnShape) -> String {
    let name = format!("{table}{}", quote(&column.name));
    let own_cast = Kind::named(&column.type_name) == Kind::Other || *column.type_name == *"bpchar";
    if own_cast { output_form(&name) } else { format!("{name}::text") }
}

/// Reads rows by key as texts, with the number (from 1) of the key that found each; arguments as for [`delete`].
pub fn select(shape: &TableShape) -> String {
    let columns = list(shape.columns.iter().map(|column| output("t.", column)));
    let source = rows_argument(shape.key.len());
    format!("SELECT x.ord, {columns} FROM {} AS t JOIN {source} ON {}", table_name(shape), join_on_key(shape))
}

/// Reads the keys of the rows that have a text in a column; argument: the text.
pub fn naming(shape: &TableShape, column: usize) -> String {
    let key = list(shape.key.iter().map(|&index| output("", &shape.columns[index])));
    let (name, type_name) = (quote(&shape.columns[column].name), quote(&shape.columns[column].type_name));
    format!("SELECT {key} FROM {} WHERE {name} = $1::{type_name}", table_name(shape))
}

/// A foreign key of the live database that refers to a target table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Schema of the referring table.
    pub schema: String,
    /// Referring table.
    pub table: String,
    /// Referring columns.
    pub columns: Vec<String>,
    /// Columns of the target table referred to, in the same order.
    pub parent_columns: Vec<String>,
    /// What holds between each of the latter and its referring column, as an operator between them: a type may have an equality of
    /// its own, which is wider than that of the type that it is made of.
    pub operators: Vec<String>,
    /// What happens to rows that refer to a row that is deleted.
    pub on_delete: Action,
    /// What happens to rows that refer to columns that change.
    pub on_update: Action,
}

/// What a foreign key does to rows whose parent goes or changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing: the statement fails as long as there are any.
    Refuse,
    /// The same as happens to the parent.
    Cascade,
    /// Their referring columns become NULL, or the default.
    Set,
}

impl Action {
    /// Reads the catalog's letter.
    pub fn of_letter(letter: &str) -> Self {
        match letter {
            "c" => Action::Cascade,
            "n" | "d" => Action::Set,
            _ => Action::Refuse,
        }
    }
}

/// Lists foreign keys that refer to a table, as the fields of [`Reference`]; arguments: schema, table.
pub const REFERENCES: &str = "SELECT n.nspname::text, c.relname::text, \
    (SELECT array_agg(a.attname::text ORDER BY k.ord) FROM unnest(f.conkey) WITH ORDINALITY k(num, ord) \
      JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.num), \
    (SELECT array_agg(a.attname::text ORDER BY k.ord) FROM unnest(f.confkey) WITH ORDINALITY k(num, ord) \
      JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.num), \
    (SELECT array_agg(format('OPERATOR(%I.%s)', s.nspname, o.oprname) ORDER BY k.ord) \
      FROM unnest(f.conpfeqop) WITH ORDINALITY k(num, ord) \
      JOIN pg_operator o ON o.oid = k.num JOIN pg_namespace s ON s.oid = o.oprnamespace), \
    f.confdeltype::text, f.confupdtype::text \
  FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
  JOIN pg_class p ON p.oid = f.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace \
  WHERE f.contype = 'f' AND f.conparentid = 0 AND pn.nspname = $1 AND p.relname = $2";

/// Finds the rows of a referring table that refer to any of the parent's rows: each as the number (from 1) of its key among
/// some keys of the referring table, where it is one that `child` describes; else, and for all other rows, as NULL.
/// Arguments: as for [`delete`] of the parent, then the same for the keys of the child.
pub fn referring(parent: &TableShape, reference: &Reference, child: Option<&TableShape>) -> String {
    let columns = reference.columns.iter().zip(&reference.parent_columns).zip(&reference.operators);
    let referred =
        columns.map(|((column, parent), operator)| format!("p.{} {operator} t.{}", quote(parent), quote(column)));
    let referred = referred.collect::<Vec<_>>().join(" AND ");
    let (number, known) = match child {
        Some(child) => {
            let rows = rows_argument_as("y", parent.key.len() + 1, child.key.len());
            ("y.ord", format!(" LEFT JOIN {rows} ON {}", join_on_key_of("t", "y", child)))
        }
        None => ("NULL::bigint", String::new()),
    };
    let child = format!("{}.{}", quote(&reference.schema), quote(&reference.table));
    let (source, found) = (rows_argument(parent.key.len()), join_on_key_of("p", "x", parent));
    format!(
        "SELECT {number} FROM {source} JOIN {} AS p ON {found} JOIN {child} AS t ON {referred}{known}",
        table_name(parent)
    )
}
