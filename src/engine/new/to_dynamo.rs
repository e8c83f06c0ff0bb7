//! Tables of Postgres that become tables of DynamoDB: each row an item under the same key.

use crate::mapping::schema::Kind;

use super::draft::{Draft, Field, LeftOut, Table, made_up_text};
use super::postgres::{Form, Source, SourceColumn};
use super::text::{Names, beginning, key, plain_name, quoted};

/// Longest name of a table that leaves room for what stands behind it.
const NAME_MAX: usize = 200;
/// Shortest name of a table.
const NAME_MIN: usize = 3;

/// Fills a draft; `suffix` is what the live names of the target's tables end with.
pub(super) fn fill(draft: &mut Draft, sources: &[Source<'_>], suffix: &str) {
    draft.preamble = preamble(suffix);
    let mut names = Names::default();
    for source in sources {
        if let Some(column) = textless(source) {
            draft.left_out.push(LeftOut {
                table: source.described.name.to_string(),
                why: format!("its key has more than two columns, and {column}, which is one of them, has no text"),
                fix: "write its map by hand".to_owned(),
            });
            continue;
        }
        let plain = plain_name(beginning(&source.described.name.table, NAME_MAX));
        let plain = if plain.len() < NAME_MIN { format!("{plain}_table") } else { plain };
        let target = names.free(&[plain, format!("{}_items", source.alias)]);
        draft.tables.push(table(source, target, suffix));
    }
}

/// A column without a text among those of a key that would have to be joined into one attribute.
fn textless<'a>(source: &Source<'a>) -> Option<&'a str> {
    let rest = source.key.get(1..).filter(|rest| rest.len() > 1)?;
    let joined = rest.iter().map(|place| &source.columns[*place]);
    let mut without = joined.filter(|column| matches!(column.kind, Kind::Bytes | Kind::Json | Kind::Native));
    without.next().map(|column| &*column.described.name)
}

/// What stands before the target's tables.
pub(super) fn preamble(suffix: &str) -> String {
    format!(
        "# Their live names end with this: a table of DynamoDB cannot be renamed, and the old ones stay until cutover.\n\
         suffix = {}\n",
        quoted(suffix)
    )
}

/// An attribute of the key.
struct Part {
    name: String,
    letter: &'static str,
    term: String,
    example: String,
}

fn table(source: &Source<'_>, target: String, suffix: &str) -> Table {
    let mut names = Names::taken(source.columns.iter().map(|column| column.described.name.to_string()));
    let parts: Vec<&SourceColumn<'_>> = source.key.iter().map(|place| &source.columns[*place]).collect();
    let mut key_parts = Vec::new();
    if let Some((hash, rest)) = parts.split_first() {
        key_parts.push(part(hash));
        match rest {
            [] => {}
            [range] => key_parts.push(part(range)),
            more => {
                let name = names.free(&["sort_key".to_owned()]);
                let term = more.iter().map(|column| format!("{{.{}}}", column.name)).collect::<Vec<_>>().join("#");
                let example = more.iter().map(|column| example_text(column)).collect::<Vec<_>>().join("#");
                let term = format!("{{ template = {} }}", quoted(&term));
                key_parts.push(Part { name, letter: "S", term, example: quoted(&example) });
            }
        }
    }
    let mut map_about = Vec::new();
    let mut fields: Vec<Field> = source
        .columns
        .iter()
        .map(|column| {
            let name = column.described.name.to_string();
            match key_parts.iter().find(|part| part.name == name) {
                Some(part) => Field { name, term: part.term.clone(), expected: Some(part.example.clone()) },
                None => field(column, name),
            }
        })
        .collect();
    if source.columns.iter().any(|column| column.kind == Kind::Timestamp) {
        map_about.push(
            "Times become microseconds since 1970, as text: DynamoDB has no type for them. Whole seconds as a number: \
                        { epoch = \".COLUMN\", refuse = \"REASON\" }."
                .to_owned(),
        );
    }
    for part in &key_parts {
        if !fields.iter().any(|field| field.name == part.name) {
            map_about.push(format!(
                "{} is the rest of the key in one attribute: look whether # may stand in its parts.",
                part.name
            ));
            fields.push(Field {
                name: part.name.clone(),
                term: part.term.clone(),
                expected: Some(part.example.clone()),
            });
        }
    }
    let definition = definition(source, &target, &key_parts);
    let live = format!("{target}{suffix}");
    Table { definition, map_about, fields, ..source.table(target, live) }
}

/// A column as an attribute of the key.
fn part(column: &SourceColumn<'_>) -> Part {
    let plain = quoted(&format!(".{}", column.name));
    let (letter, term) = match column.kind {
        Kind::Text | Kind::Uuid => ("S", plain),
        Kind::Int | Kind::Decimal => ("N", plain),
        Kind::Bytes => ("B", plain),
        Kind::Json => ("S", format!("{{ text = {plain} }}")),
        Kind::Bool | Kind::Float | Kind::Timestamp | Kind::Native => {
            ("S", format!("{{ template = {} }}", quoted(&format!("{{.{}}}", column.name))))
        }
    };
    let example = match (letter, column.kind) {
        ("N", _) => format!("{{ N = \"{}\" }}", made_up_text(column.kind)),
        ("B", _) => "{ B = \"00ff\" }".to_owned(),
        _ => quoted(&example_text(column)),
    };
    Part { name: column.described.name.to_string(), letter, term, example }
}

/// What a column's made-up value is in a text.
fn example_text(column: &SourceColumn<'_>) -> String {
    match column.form {
        Form::Kind => made_up_text(column.kind).to_owned(),
        Form::Enum => column.described.labels[0].to_string(),
        Form::Carried | Form::Text => column.made_up_carried(),
    }
}

/// A column as an attribute beside the key.
fn field(column: &SourceColumn<'_>, name: String) -> Field {
    let plain = quoted(&format!(".{}", column.name));
    let term = match column.kind {
        Kind::Timestamp => format!("{{ template = {} }}", quoted(&format!("{{.{}}}", column.name))),
        _ => plain,
    };
    let expected = match column.kind {
        Kind::Bool => "true".to_owned(),
        Kind::Int | Kind::Decimal | Kind::Float => format!("{{ N = \"{}\" }}", made_up_text(column.kind)),
        Kind::Bytes => "{ B = \"00ff\" }".to_owned(),
        Kind::Json => "{ M = { a = [1] } }".to_owned(),
        Kind::Text | Kind::Timestamp | Kind::Uuid | Kind::Native => quoted(&example_text(column)),
    };
    Field { name, term, expected: Some(expected) }
}

fn definition(source: &Source<'_>, target: &str, parts: &[Part]) -> String {
    let mut text = format!("[table.{}]\n", key(target));
    for (role, part) in ["hash", "range"].iter().zip(parts) {
        text.push_str(&format!("{role} = {}\n", quoted(&part.name)));
    }
    let attributes: Vec<String> =
        parts.iter().map(|part| format!("{} = \"{}\"", key(&part.name), part.letter)).collect();
    text.push_str(&format!("billing = \"on_demand\"\nattributes = {{ {} }}", attributes.join(", ")));
    text.push_str("   # of keys and indexes only\n");
    let plain = source.described.indexes.iter().filter_map(|index| index.columns.as_ref());
    for columns in plain {
        let columns: Vec<String> = columns.iter().map(|column| super::text::one_line(column)).collect();
        text.push_str(&format!(
            "# An index of the old table, on {}: an index here costs each write, so take only what is asked for.\n",
            columns.join(", ")
        ));
    }
    text
}
