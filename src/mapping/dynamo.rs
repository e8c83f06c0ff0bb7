//! Reads `target.toml`: the tables of a DynamoDB target, with keys, indexes and what these project.

use super::compile::{parse, written};
use super::diagnostic::{Problem, Problems, SourceFile};
use super::raw::{Name, Named};
use super::raw_dynamo::{Index, Projection as RawProjection, Table, Target};
use super::schema::{ColumnDef, DynamoIndex, DynamoKey, DynamoTable, Kind, Nullable, Projection, TargetTableDef};

/// Name and type name of the column that holds the whole item.
pub(super) const ITEM: &str = "item";

/// Reads the tables, in the order written: what they are, and how their rows are laid out.
pub(super) fn read(file: &SourceFile) -> (Vec<DynamoTable>, Vec<TargetTableDef>, Vec<Problem>) {
    let mut found = Vec::new();
    let Some(raw) = parse::<Target>(file, &mut found) else { return (Vec::new(), Vec::new(), found) };
    let mut problems = Problems::new(file.clone());
    let tables: Vec<DynamoTable> = written(&raw.table)
        .into_iter()
        .filter_map(|(name, table)| self::table(name, table, &raw.suffix, &mut problems))
        .collect();
    found.extend(problems.into_found());
    let layouts = tables.iter().map(layout).collect();
    (tables, layouts, found)
}

fn table(name: &Name, raw: &Table, suffix: &str, problems: &mut Problems) -> Option<DynamoTable> {
    if raw.billing.get_ref() != "on_demand" {
        problems.unknown(raw.billing.span(), "billing", raw.billing.get_ref(), ["on_demand"]);
    }
    let key = keys(&raw.hash, raw.range.as_ref(), &raw.attributes, problems);
    let mut indexes = Vec::new();
    for (index_name, index) in written(&raw.index) {
        let key = keys(&index.hash, index.range.as_ref(), &raw.attributes, problems);
        let projection = projection(index_name, index, problems);
        let name = index_name.get_ref().as_str().into();
        indexes.extend(key.zip(projection).map(|(key, projection)| DynamoIndex { name, key, projection }));
    }
    for attribute in raw.attributes.keys() {
        let indexed =
            raw.index.values().any(|index| index.hash == *attribute || index.range.as_ref() == Some(attribute));
        if !indexed && raw.hash != *attribute && raw.range.as_ref() != Some(attribute) {
            let message = format!("`{}` is part of no key", attribute.get_ref());
            problems.push(attribute.span(), message, "take it out: only attributes of keys have a declared type");
        }
    }
    let alias: Box<str> = name.get_ref().as_str().into();
    Some(DynamoTable { name: format!("{alias}{suffix}").into(), alias, key: key?, indexes })
}

fn keys(
    hash: &Name,
    range: Option<&Name>,
    attributes: &Named<Name>,
    problems: &mut Problems,
) -> Option<Vec<DynamoKey>> {
    let mut key = Vec::new();
    for name in [hash].into_iter().chain(range) {
        let Some(kind) = attributes.iter().find(|(known, _)| known.get_ref() == name.get_ref()) else {
            let known = attributes.keys().map(|known| known.get_ref().as_str());
            problems.unknown(name.span(), "attribute", name.get_ref(), known);
            return None;
        };
        let Some(kind) = Kind::of_key(kind.1.get_ref()) else {
            problems.unknown(kind.1.span(), "type of a key", kind.1.get_ref(), ["S", "N", "B"]);
            return None;
        };
        key.push(DynamoKey { name: name.get_ref().as_str().into(), kind });
    }
    Some(key)
}

fn projection(name: &Name, raw: &Index, problems: &mut Problems) -> Option<Projection> {
    match &raw.projection {
        RawProjection::Word(word) if word == "all" => Some(Projection::All),
        RawProjection::Word(word) if word == "keys_only" => Some(Projection::KeysOnly),
        RawProjection::Word(word) => {
            problems.unknown(name.span(), "projection", word, ["all", "keys_only"]);
            None
        }
        RawProjection::Attributes(attributes) => {
            Some(Projection::Include(attributes.iter().map(|attribute| attribute.as_str().into()).collect()))
        }
    }
}

/// Columns of an item as a row: its key attributes, and all of it.
pub(super) fn columns(key: &[DynamoKey]) -> Vec<ColumnDef> {
    let column = |name: &str, type_name: &str, kind: Kind| ColumnDef {
        name: name.into(),
        type_name: type_name.into(),
        kind,
        nullable: Nullable::No,
        labels: Vec::new(),
    };
    let key = key.iter().map(|part| column(&part.name, part.kind.key_name(), part.kind));
    key.chain([column(ITEM, ITEM, Kind::Native)]).collect()
}

fn layout(table: &DynamoTable) -> TargetTableDef {
    TargetTableDef {
        alias: table.alias.clone(),
        name: table.name.clone(),
        columns: columns(&table.key),
        key: (0..table.key.len()).collect(),
        uniques: Vec::new(),
        indexes: Vec::new(),
        foreign_keys: Vec::new(),
        checks: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_keys_indexes_and_a_row_of_key_and_item() {
        let text = r#"
            [table.t]
            hash = "p"
            range = "s"
            billing = "on_demand"
            attributes = { p = "S", s = "N", g = "B" }
            [table.t.index.i]
            hash = "g"
            projection = ["x"]
        "#;
        let (tables, layouts, problems) = read(&SourceFile::new("target.toml", text));
        assert_eq!(problems, []);
        assert_eq!(tables[0].key[1], DynamoKey { name: "s".into(), kind: Kind::Decimal });
        assert_eq!(tables[0].indexes[0].projection, Projection::Include(vec!["x".into()]));
        let columns: Vec<(&str, &str)> =
            layouts[0].columns.iter().map(|column| (&*column.name, &*column.type_name)).collect();
        assert_eq!(columns, [("p", "S"), ("s", "N"), ("item", "item")]);
    }

    #[test]
    fn what_dynamodb_would_refuse_is_told() {
        for (text, message) in [
            ("[table.t]\nhash = \"p\"\nbilling = \"on_demand\"\nattributes = { q = \"S\" }", "unknown attribute `p`"),
            (
                "[table.t]\nhash = \"p\"\nbilling = \"on_demand\"\nattributes = { p = \"BOOL\" }",
                "unknown type of a key `BOOL`",
            ),
            (
                "[table.t]\nhash = \"p\"\nbilling = \"on_demand\"\nattributes = { p = \"S\", q = \"S\" }",
                "part of no key",
            ),
            ("[table.t]\nhash = \"p\"\nbilling = \"free\"\nattributes = { p = \"S\" }", "unknown billing"),
        ] {
            let (_, _, problems) = read(&SourceFile::new("target.toml", text));
            assert!(problems.iter().any(|problem| problem.message.contains(message)), "{message}: {problems:?}");
        }
    }
}
