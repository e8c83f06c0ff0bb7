//! Tables of both sides as a migration means them.

use serde::{Deserialize, Serialize};

use crate::event::Value;

/// Index of a source table in its migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceTable(pub u16);

/// The kinds of values that a column holds; what the two sides must agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `boolean`.
    Bool,
    /// Integers of any width.
    Int,
    /// `numeric`.
    Decimal,
    /// `real`, `double precision`.
    Float,
    /// Text of any length.
    Text,
    /// `bytea`.
    Bytes,
    /// `timestamp`, `timestamptz`.
    Timestamp,
    /// `uuid`.
    Uuid,
    /// `json`, `jsonb`.
    Json,
    /// Any value of DynamoDB: an attribute whose type is not declared, a map, a list, a set.
    Native,
}

impl Kind {
    /// The kind of a Postgres type, by any of its names; `None` for one that rehome does not map.
    pub fn of_type(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "boolean" | "bool" => Self::Bool,
            "smallint" | "int2" | "integer" | "int" | "int4" | "bigint" | "int8" => Self::Int,
            "numeric" | "decimal" => Self::Decimal,
            "real" | "float4" | "double precision" | "float8" => Self::Float,
            "text" | "varchar" | "character varying" => Self::Text,
            "bytea" => Self::Bytes,
            "timestamp" | "timestamptz" | "timestamp with time zone" | "timestamp without time zone" => Self::Timestamp,
            "uuid" => Self::Uuid,
            "json" | "jsonb" => Self::Json,
            _ => return None,
        })
    }

    /// Kind of a key attribute of DynamoDB, by the letter of its type.
    pub fn of_key(letter: &str) -> Option<Self> {
        Some(match letter {
            "S" => Self::Text,
            "N" => Self::Decimal,
            "B" => Self::Bytes,
            _ => return None,
        })
    }

    /// The letter of a key attribute's type.
    pub fn key_name(self) -> &'static str {
        match self {
            Self::Decimal => "N",
            Self::Bytes => "B",
            _ => "S",
        }
    }

    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Int => "integer",
            Self::Decimal => "numeric",
            Self::Float => "double precision",
            Self::Text => "text",
            Self::Bytes => "bytea",
            Self::Timestamp => "timestamp",
            Self::Uuid => "uuid",
            Self::Json => "json",
            Self::Native => "a DynamoDB value",
        }
    }

    /// Whether a value may stand in a column of this kind; NULL may as far as the kind goes.
    pub fn holds(self, value: &Value) -> bool {
        matches!(
            (self, value),
            (_, Value::Null)
                | (Self::Bool, Value::Bool(_))
                | (Self::Int, Value::Int(_))
                | (Self::Decimal, Value::Decimal(_))
                | (Self::Float, Value::Float(_))
                | (Self::Text, Value::Text(_))
                | (Self::Bytes, Value::Bytes(_))
                | (Self::Timestamp, Value::Timestamp(_))
                | (Self::Uuid, Value::Uuid(_))
                | (Self::Json, Value::Json(_))
                | (Self::Native, _)
        )
    }
}

/// Types of Postgres without a kind of their own, by the catalog's names: their values travel as the text that the server writes.
const CARRIED: [&str; 23] = [
    "bit",
    "bpchar",
    "cidr",
    "date",
    "daterange",
    "inet",
    "int4range",
    "int8range",
    "interval",
    "macaddr",
    "money",
    "name",
    "numrange",
    "oid",
    "point",
    "time",
    "timetz",
    "tsrange",
    "tstzrange",
    "tsvector",
    "varbit",
    "xml",
    "char",
];

/// Whether a target's column may have this type although it has no kind: it takes what a column of the same type holds, as it is.
pub fn carried(catalog_name: &str) -> bool {
    match catalog_name.strip_prefix('_') {
        Some(element) => CARRIED.contains(&element) || Kind::of_type(element).is_some(),
        None => CARRIED.contains(&catalog_name),
    }
}

/// The catalog's name of a Postgres type, by any of the names that SQL has for it: `timestamptz` for `TIMESTAMP WITH TIME ZONE`,
/// `_int4` for `integer[]`. A quoted name is taken as it is.
pub fn catalog_name(written: &str) -> Box<str> {
    let written = written.trim();
    // An array of any dimensions is one type.
    let element = written.trim_end_matches("[]");
    if element.len() < written.len() {
        return format!("_{}", catalog_name(element)).into();
    }
    if let Some(quoted) = written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return quoted.replace("\"\"", "\"").into();
    }
    let bare = match written.split_once('(') {
        Some((before, rest)) => format!("{}{}", before.trim_end(), rest.split_once(')').map_or("", |(_, after)| after)),
        None => written.to_owned(),
    };
    let bare = bare.to_ascii_lowercase();
    let name = match bare.as_str() {
        "boolean" => "bool",
        "smallint" => "int2",
        "integer" | "int" => "int4",
        "bigint" => "int8",
        "decimal" => "numeric",
        "real" => "float4",
        "double precision" => "float8",
        "character varying" => "varchar",
        "character" | "char" => "bpchar",
        "bit varying" => "varbit",
        "timestamp with time zone" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        "time with time zone" => "timetz",
        "time without time zone" => "time",
        other => other,
    };
    name.into()
}

/// Whether a column may be NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Nullable {
    /// It may.
    Yes,
    /// It may not.
    No,
}

/// A column of either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDef {
    /// Name.
    pub name: Box<str>,
    /// Type as it is written in the file.
    pub type_name: Box<str>,
    /// Kind of its values.
    pub kind: Kind,
    /// Whether it may be NULL.
    pub nullable: Nullable,
    /// The labels that a column of an enum may hold; none for any other type.
    pub labels: Vec<Box<str>>,
}

impl ColumnDef {
    /// The catalog's name of its type, where that has no kind and its values travel as text.
    pub fn carried_type(&self) -> Option<Box<str>> {
        let name = catalog_name(&self.type_name);
        (self.kind == Kind::Text && Kind::of_type(&name).is_none() && self.labels.is_empty()).then_some(name)
    }
}

/// How the rows of one unit are found in the live store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitLookup {
    /// The unit's column is the key, or leads it.
    Key,
    /// Through the named index.
    Index(Box<str>),
    /// Only by reading the whole table.
    Scan,
}

/// What a table's rows are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// They belong to units.
    Unit,
    /// References find them, and they belong to no unit.
    Lookup,
}

/// Whether a live store may lack a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Presence {
    /// It may not: without the table nothing starts.
    Required,
    /// It may: the table is told of, and taken to have no rows.
    Optional,
}

/// A table of the legacy store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceTableDef {
    /// Name by which the mapping calls it.
    pub alias: Box<str>,
    /// Live schema.
    pub schema: Box<str>,
    /// Live name.
    pub name: Box<str>,
    /// Columns, in the order of a row's values.
    pub columns: Vec<ColumnDef>,
    /// What each column is called in the live table.
    pub live: Vec<Box<str>>,
    /// Indexes into `columns` of the key, in its order.
    pub key: Vec<usize>,
    /// What its rows are for.
    pub role: Role,
    /// Whether the live store may lack it.
    pub presence: Presence,
    /// Index into `columns` of the one that names the unit by itself; `None` where a longer route does.
    pub unit: Option<usize>,
    /// Index into `columns` of the one that says when the row was written; `None` where nothing asks.
    pub time: Option<usize>,
    /// How one unit's rows are read.
    pub unit_lookup: UnitLookup,
    /// Columns that no target row shows, with the reason.
    pub dropped: Vec<(Box<str>, Box<str>)>,
}

impl SourceTableDef {
    /// Index of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| &*column.name == name)
    }
}

/// A foreign key of a target table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// Columns here.
    pub columns: Vec<Box<str>>,
    /// Table referred to.
    pub table: Box<str>,
    /// Columns there; its primary key when empty.
    pub referred: Vec<Box<str>>,
}

/// A table of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetTableDef {
    /// Name by which the mapping calls it.
    pub alias: Box<str>,
    /// Live name.
    pub name: Box<str>,
    /// Columns, in the order of a row's values.
    pub columns: Vec<ColumnDef>,
    /// Indexes into `columns` of the primary key, in its order.
    pub key: Vec<usize>,
    /// Sets of columns that are unique.
    pub uniques: Vec<Vec<Box<str>>>,
    /// Columns of further indexes, in their order.
    pub indexes: Vec<Vec<Box<str>>>,
    /// Foreign keys.
    pub foreign_keys: Vec<ForeignKey>,
    /// Checks, as SQL.
    pub checks: Vec<Box<str>>,
}

impl TargetTableDef {
    /// Index of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| &*column.name == name)
    }
}

/// What kind of store one side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Store {
    /// Postgres.
    Postgres,
    /// DynamoDB. A row of it has its key attributes as columns, and `item`, a map of all attributes, the key included.
    DynamoDb,
}

/// A table of a DynamoDB target, on demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamoTable {
    /// Name by which the mapping calls it.
    pub alias: Box<str>,
    /// Live name.
    pub name: Box<str>,
    /// The partition key, then the sort key where there is one.
    pub key: Vec<DynamoKey>,
    /// Global secondary indexes, in the order written.
    pub indexes: Vec<DynamoIndex>,
}

/// A key attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamoKey {
    /// Name.
    pub name: Box<str>,
    /// [`Kind::Text`] for `S`, [`Kind::Decimal`] for `N`, [`Kind::Bytes`] for `B`.
    pub kind: Kind,
}

/// A global secondary index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamoIndex {
    /// Name.
    pub name: Box<str>,
    /// Its partition key, then its sort key where there is one.
    pub key: Vec<DynamoKey>,
    /// What it holds beside the keys.
    pub projection: Projection,
}

/// What an index holds beside its keys and the table's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Projection {
    /// The whole item.
    All,
    /// Nothing.
    KeysOnly,
    /// These attributes.
    Include(Vec<Box<str>>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_one_name() {
        for (written, name) in [
            ("BIGINT", "int8"),
            ("timestamp with time zone", "timestamptz"),
            ("TIMESTAMP(3) WITH TIME ZONE", "timestamptz"),
            ("numeric(10, 2)", "numeric"),
            ("jsonb", "jsonb"),
            ("text[]", "_text"),
            ("NUMERIC(10,2)[][]", "_numeric"),
            ("char(3)", "bpchar"),
            ("\"char\"", "char"),
            ("\"Mood \"\"now\"\"\"", "Mood \"now\""),
        ] {
            assert_eq!(&*catalog_name(written), name);
        }
    }

    #[test]
    fn what_has_a_kind_is_not_carried_and_arrays_of_it_are() {
        for name in ["date", "_date", "_text", "_timestamptz", "bpchar"] {
            assert!(carried(name), "{name}");
        }
        for name in ["text", "numeric", "mood", "_mood", "hstore"] {
            assert!(!carried(name), "{name}");
        }
    }
}
