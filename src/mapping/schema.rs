//! Tables of both sides as a migration means them.

use crate::event::Value;

/// Index of a source table in its migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
        )
    }
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
    /// Indexes into `columns` of the key, in its order.
    pub key: Vec<usize>,
    /// What its rows are for.
    pub role: Role,
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
    /// Name.
    pub name: Box<str>,
    /// Columns, in the order of a row's values.
    pub columns: Vec<ColumnDef>,
    /// Indexes into `columns` of the primary key, in its order.
    pub key: Vec<usize>,
    /// Sets of columns that are unique.
    pub uniques: Vec<Vec<Box<str>>>,
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
