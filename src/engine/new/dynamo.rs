//! Tables of DynamoDB as a draft has them, for either kind of target.
//!
//! Items have no fixed attributes. Into DynamoDB whatever an item has is carried, known or not; into Postgres go the attributes
//! that a page of items showed with one type that a column can have, and that is said.

use std::collections::BTreeSet;

use crate::dynamo::survey::{Surveyed, SurveyedIndex};
use crate::dynamo::table::{KeyAttribute, KeyKind, View};
use crate::dynamo::target::Projection;
use crate::mapping::schema::Kind;

use super::draft::{Column, Draft, Field, LeftOut, Table, made_up_text};
use super::text::{Names, beginning, key, list, one_line, plain_name, quoted, sayable};
use super::to_dynamo::preamble;

/// Reason for which an item is refused whose attribute has another type than its column.
const ATTRIBUTE_TYPE: &str = "attribute_type";
/// Longest name of a table that leaves room for a number behind it, in bytes.
const NAME_BYTES_MAX: usize = 57;

/// A table of the source.
struct Source<'a> {
    surveyed: &'a Surveyed,
    alias: String,
    /// The key's attributes, each with the mapping's name.
    key: Vec<(String, &'a KeyAttribute)>,
}

/// Fills a draft with tables of DynamoDB; `suffix` is what their live names end with.
pub(super) fn fill_dynamo(draft: &mut Draft, all: &[Surveyed], suffix: &str) {
    draft.preamble = preamble(suffix);
    draft.tables = sources(all).iter().map(|source| to_dynamo(source, suffix)).collect();
}

/// Fills a draft with tables of Postgres.
pub(super) fn fill_postgres(draft: &mut Draft, all: &[Surveyed]) {
    let mut names = Names::default();
    for source in sources(all) {
        let columns = columns(&source);
        if columns.is_empty() {
            draft.left_out.push(LeftOut {
                table: source.surveyed.table.shape.table().to_owned(),
                why: "no attribute beside its key was seen with one type that a column can have".to_owned(),
                fix: "write its map by hand, or migrate it to DynamoDB".to_owned(),
            });
            continue;
        }
        draft.reasons.insert(ATTRIBUTE_TYPE);
        draft.tables.push(to_postgres(&source, &columns, &mut names));
    }
}

fn sources(all: &[Surveyed]) -> Vec<Source<'_>> {
    let mut aliases = Names::default();
    let mut sources = Vec::new();
    for surveyed in all {
        let (shape, mut names) = (&surveyed.table.shape, Names::default());
        let key = shape.key.iter().map(|part| (names.free(&[sayable(&part.name)]), part)).collect();
        sources.push(Source { surveyed, alias: aliases.free(&[plain_name(shape.table())]), key });
    }
    sources
}

impl Source<'_> {
    /// What both kinds of target have of it.
    fn table(&self, target: String, target_live: String) -> Table {
        let hash = self.key.first().filter(|(_, part)| part.kind != KeyKind::B);
        let name = |of: Option<&str>| match of {
            Some(of) => format!("{}:{of}", self.alias),
            None => self.alias.clone(),
        };
        let column = |(name, part): &(String, &KeyAttribute)| Column {
            name: name.clone(),
            live: (**name != *part.name).then(|| part.name.to_string()),
            type_text: part.kind.name().to_owned(),
            made_up: Some(made_up(part.kind.name()).unwrap_or_default().to_owned()),
            about: None,
        };
        let counted = |(name, part): &(String, &KeyAttribute)| part.kind != KeyKind::B && **name == *part.name;
        let counted_by = match self.key.iter().all(counted) {
            true => self.key.iter().map(|(name, _)| (name.clone(), name.clone())).collect(),
            false => Vec::new(),
        };
        Table {
            about: self.about(),
            alias: self.alias.clone(),
            schema: None,
            live: self.surveyed.table.shape.table().to_owned(),
            key: self.key.iter().map(|(name, _)| name.clone()).collect(),
            columns: self.key.iter().map(column).collect(),
            unit: name(hash.map(|(name, _)| format!("{{.{name}}}")).as_deref()),
            unit_about: match (hash, self.key.len()) {
                (None, _) => Some("bytes cannot name a unit: all items are of one"),
                (Some(_), 2) => Some("the items of a partition, which one query reads"),
                _ => None,
            },
            unit_lookup: if hash.is_some() { "key" } else { "scan" },
            target,
            target_live,
            map_about: Vec::new(),
            fields: Vec::new(),
            drop: Vec::new(),
            definition: String::new(),
            also_given: Vec::new(),
            also_expected: Vec::new(),
            example_unit: name(hash.map(|(_, part)| made_up_text(kind(part.kind.name())))),
            counted_by,
        }
    }

    fn about(&self) -> Vec<String> {
        let mut about = Vec::new();
        match &self.surveyed.table.stream {
            Some(stream) if matches!(stream.view, Some(View::NewImage | View::Both)) => {}
            Some(_) => about.push(
                "Its stream does not tell what an item became: `rehome check --source` says what to do.".to_owned(),
            ),
            None => about.push(
                "It has no stream, which is needed to follow it: `rehome check --source` says what to do.".to_owned(),
            ),
        }
        let items = self.surveyed.items;
        if items == 0 {
            about.push("It has no items, so nothing is known of their attributes.".to_owned());
        } else {
            about
                .push(format!("Attributes beside the key in {items} items, each with its types and how many have it:"));
        }
        for (name, types) in &self.surveyed.attributes {
            let types: Vec<String> = types.iter().map(|(of, count)| format!("{of} {count}")).collect();
            about.push(format!("  {}: {}", one_line(name), types.join(", ")));
        }
        about
    }
}

/// A made-up value of a type of DynamoDB, as an example writes it; `None` for a type that examples cannot write.
fn made_up(type_name: &str) -> Option<&'static str> {
    Some(match type_name {
        "S" => "\"a\"",
        "N" => "{ N = \"1.50\" }",
        "B" => "{ B = \"00ff\" }",
        "BOOL" => "true",
        "NULL" => "{ NULL = true }",
        "M" => "{ M = { a = 1 } }",
        "L" => "[1, \"a\"]",
        "SS" => "{ SS = [\"a\"] }",
        "NS" => "{ NS = [\"1\"] }",
        _ => return None,
    })
}

/// The kind of a key attribute's type.
fn kind(type_name: &str) -> Kind {
    Kind::of_key(type_name).unwrap_or(Kind::Text)
}

fn to_dynamo(source: &Source<'_>, suffix: &str) -> Table {
    let shape = &source.surveyed.table.shape;
    let mut table = source.table(shape.table().to_owned(), format!("{}{suffix}", shape.table()));
    for (name, part) in &source.key {
        let expected = made_up(part.kind.name()).map(str::to_owned);
        table.fields.push(Field { name: part.name.to_string(), term: quoted(&format!(".{name}")), expected });
        if **name != *part.name {
            table.drop.push((name.clone(), "it goes along under its live name"));
        }
    }
    table.map_about.push(
        "Whatever else an item has goes along, but for what stands under drop = { ATTRIBUTE = \"WHY\" }.".to_owned(),
    );
    let indexed: BTreeSet<&str> = source
        .surveyed
        .indexes
        .iter()
        .filter(|index| !index.local)
        .flat_map(|index| &index.key)
        .map(|part| &*part.name)
        .collect();
    for (name, types) in &source.surveyed.attributes {
        // What is in the key of an index has one type, and the example's must be that.
        let known = types.keys().next().and_then(|of| made_up(of)).filter(|_| !indexed.contains(&**name));
        if let Some(value) = known {
            table.also_given.push((name.to_string(), value.to_owned()));
            table.also_expected.push((name.to_string(), value.to_owned()));
        }
    }
    table.definition = definition(source);
    table
}

fn definition(source: &Source<'_>) -> String {
    let surveyed = source.surveyed;
    let name = key(surveyed.table.shape.table());
    let mut attributes: Vec<&KeyAttribute> = surveyed.table.shape.key.iter().collect();
    let global = || surveyed.indexes.iter().filter(|index| !index.local);
    for part in global().flat_map(|index| &index.key) {
        if attributes.iter().all(|known| known.name != part.name) {
            attributes.push(part);
        }
    }
    let attributes: Vec<String> =
        attributes.iter().map(|part| format!("{} = \"{}\"", key(&part.name), part.kind.name())).collect();
    let mut text = format!("[table.{name}]\n{}billing = \"on_demand\"\n", keys(&surveyed.table.shape.key));
    text.push_str(&format!("attributes = {{ {} }}   # of keys and indexes only\n", attributes.join(", ")));
    for index in global() {
        text.push_str(&format!(
            "\n[table.{name}.index.{}]\n{}{}",
            key(&index.name),
            keys(&index.key),
            projection(index)
        ));
    }
    for index in surveyed.indexes.iter().filter(|index| index.local) {
        let parts: Vec<String> = index.key.iter().map(|part| one_line(&part.name)).collect();
        let (name, parts) = (one_line(&index.name), parts.join(", "));
        text.push_str(&format!(
            "# not taken over: the local index {name} on {parts}; a global one can take its place\n"
        ));
    }
    text
}

fn keys(parts: &[KeyAttribute]) -> String {
    let parts = ["hash", "range"].iter().zip(parts);
    parts.map(|(role, part)| format!("{role} = {}\n", quoted(&part.name))).collect()
}

fn projection(index: &SurveyedIndex) -> String {
    match &index.projection {
        Projection::All => "projection = \"all\"\n".to_owned(),
        Projection::KeysOnly => "projection = \"keys_only\"\n".to_owned(),
        Projection::Include(names) => format!("projection = {}\n", list(names.iter().map(|name| &**name))),
    }
}

/// An attribute that becomes a column.
struct Becoming {
    name: String,
    type_name: &'static str,
}

/// The attributes that become columns: seen with one type only, and with a name that a term can say.
fn columns(source: &Source<'_>) -> Vec<Becoming> {
    let attributes = source.surveyed.attributes.iter();
    let one = attributes.filter_map(|(name, types)| {
        let mut types = types.keys().filter(|of| **of != "NULL");
        let only = types.next().filter(|of| matches!(**of, "S" | "N" | "B") && *sayable(name) == **name)?;
        types.next().is_none().then(|| Becoming { name: name.to_string(), type_name: only })
    });
    one.collect()
}

fn to_postgres(source: &Source<'_>, columns: &[Becoming], names: &mut Names) -> Table {
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let live = plain_name(source.surveyed.table.shape.table()).to_ascii_lowercase();
    let target = names.free(&[beginning(&live, NAME_BYTES_MAX).to_owned()]);
    let mut table = source.table(target.clone(), target.clone());
    // SQL type, form of the term, and the example's value.
    let becomes = |type_name: &str| match type_name {
        "N" => ("numeric", "number", "\"1.50\""),
        "B" => ("bytea", "binary", "\"00ff\""),
        _ => ("text", "string", "\"a\""),
    };
    let mut lines = Vec::new();
    for (name, part) in &source.key {
        let (sql, _, example) = becomes(part.kind.name());
        lines.push(format!("    {} {sql} NOT NULL", quote(&part.name)));
        let term = quoted(&format!(".{name}"));
        table.fields.push(Field { name: part.name.to_string(), term, expected: Some(example.to_owned()) });
    }
    for Becoming { name, type_name } in columns {
        let (sql, form, example) = becomes(type_name);
        lines.push(format!("    {} {sql}", quote(name)));
        let term = format!("{{ {form} = {}, refuse = \"{ATTRIBUTE_TYPE}\" }}", quoted(&format!(".{name}")));
        table.fields.push(Field { name: name.clone(), term, expected: Some(example.to_owned()) });
        table.also_given.push((name.clone(), made_up(type_name).unwrap_or_default().to_owned()));
    }
    let lost = source.surveyed.attributes.keys().filter(|name| !columns.iter().any(|column| *column.name == ***name));
    for name in lost {
        let why = "no term makes a column of what it holds";
        table.map_about.push(format!("NOT CARRIED: {}: {why}.", one_line(name)));
    }
    table.map_about.push("NOT CARRIED: attributes that the page of items did not show.".to_owned());
    let primary: Vec<String> = source.key.iter().map(|(_, part)| quote(&part.name)).collect();
    lines.push(format!("    PRIMARY KEY ({})", primary.join(", ")));
    table.definition = format!("CREATE TABLE {} (\n{}\n);\n", quote(&target), lines.join(",\n"));
    table
}
