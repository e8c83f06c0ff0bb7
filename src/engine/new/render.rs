//! A draft as the files of a migration.

use crate::mapping::schema::Store;

use super::draft::{Draft, Field, Table};
use super::text::{key, list, one_line, quoted};

/// `legacy.toml`.
pub(super) fn legacy(draft: &Draft) -> String {
    let source = store(draft.source);
    let mut text = format!(
        "# {}: tables as `rehome new` found them, with every column. docs/mapping.md describes the language.\n\
         source = \"{source}\"\n",
        one_line(&draft.name)
    );
    for left in &draft.left_out {
        let (table, why, fix) = (one_line(&left.table), one_line(&left.why), one_line(&left.fix));
        text.push_str(&format!("\n# LEFT OUT {table}: {why}.\n# To take it in: {fix}.\n"));
    }
    text.push_str(
        "\n# CHOICE role: \"lookup\" is for a table that others only look into, by a [reference]. It has no unit_lookup then, and in\n\
         # mapping.toml no [unit], no [part] and no [[map]].\n",
    );
    for table in &draft.tables {
        text.push('\n');
        table.about.iter().for_each(|line| text.push_str(&format!("# {}\n", one_line(line))));
        text.push_str(&format!("[table.{}]\n", key(&table.alias)));
        if let Some(schema) = &table.schema {
            text.push_str(&format!("schema = {}\n", quoted(schema)));
        }
        if table.live != table.alias {
            text.push_str(&format!("name = {}\n", quoted(&table.live)));
        }
        let names = list(table.key.iter().map(String::as_str));
        text.push_str(&format!("key = {names}\nrole = \"unit\"\nunit_lookup = \"{}\"\n", table.unit_lookup));
        text.push_str(&format!("\n[table.{}.columns]\n", key(&table.alias)));
        for column in &table.columns {
            let about = column.about.as_ref().map_or_else(String::new, |about| format!("   # {}", one_line(about)));
            text.push_str(&format!("{} = {}{about}\n", key(&column.name), quoted(&column.type_text)));
        }
        let renamed: Vec<_> =
            table.columns.iter().filter_map(|column| Some((&column.name, column.live.as_ref()?))).collect();
        if !renamed.is_empty() {
            text.push_str(&format!("\n[table.{}.alias]   # live names that a term cannot say\n", key(&table.alias)));
            renamed.iter().for_each(|(name, live)| text.push_str(&format!("{} = {}\n", key(name), quoted(live))));
        }
    }
    text
}

/// `mapping.toml`.
pub(super) fn mapping(draft: &Draft) -> String {
    let name = one_line(&draft.name);
    let mut text = format!(
        "# {name}: each row becomes one row of a table with a new name. This is a beginning that works as it stands; what is to be\n\
         # decided is marked CHOICE. docs/mapping.md describes the language.\n\
         migration = {}\n\
         namespace = {}   # new ids (uuid5) are made from it: keep it\n\
         foreign = \"row\"   # a row of someone else holds back that row; \"unit\" for all of its unit\n",
        quoted(&draft.name),
        quoted(&draft.namespace.to_string())
    );
    text.push_str(
        "\n# CHOICE unit: what is looked up and compared as one thing, such as all rows of a customer. Here each row is one. Rows of\n\
         # several tables are of one unit when their texts are equal: { template = \"customer:{.customer_id}\" }.\n\
         # CHOICE route: a row that does not name its unit finds it through another table's row, by a [reference].\n[unit]\n",
    );
    for table in &draft.tables {
        let about = table.unit_about.map_or_else(String::new, |about| format!("   # {about}"));
        text.push_str(&format!("{} = {{ id = {{ template = {} }} }}{about}\n", key(&table.alias), quoted(&table.unit)));
    }
    text.push_str(
        "\n# CHOICE part: [] maps, writes and quarantines each row by itself. Terms gather rows into one part, for a [[group]]; a table\n\
         # that stands not here is mapped with its whole unit.\n[part]\n",
    );
    draft.tables.iter().for_each(|table| text.push_str(&format!("{} = []\n", key(&table.alias))));
    text.push_str("\n# What can go wrong, and what it holds back: the row, or its unit.\n[quarantine]\n");
    let mut reasons = vec!["not_storable", "unreadable_json", "key_collision"];
    if draft.target == Store::DynamoDb {
        reasons.extend(["number_out_of_range", "attribute_type", "key_too_long"]);
    }
    reasons.extend(draft.reasons.iter().copied().filter(|reason| !reasons.contains(reason)).collect::<Vec<_>>());
    reasons.iter().for_each(|reason| text.push_str(&format!("{reason} = \"row\"\n")));
    for (name, labels) in &draft.cases {
        text.push_str(&format!("\n[cases.{}]   # labels of the old enum, and what becomes of each\n", key(name)));
        labels.iter().for_each(|label| text.push_str(&format!("{} = {}\n", key(label), quoted(label))));
    }
    let columns = if draft.target == Store::DynamoDb { "attributes" } else { "columns" };
    for table in &draft.tables {
        text.push('\n');
        table.map_about.iter().for_each(|line| text.push_str(&format!("# {}\n", one_line(line))));
        text.push_str(&format!("[[map]]\nfrom = {}\nto = {}\n", quoted(&table.alias), quoted(&table.target)));
        if !table.drop.is_empty() {
            let drop: Vec<String> = table.drop.iter().map(|(name, why)| format!("{} = \"{why}\"", key(name))).collect();
            text.push_str(&format!("drop = {{ {} }}\n", drop.join(", ")));
        }
        text.push_str(&format!("\n[map.{columns}]\n"));
        table.fields.iter().for_each(|field| text.push_str(&format!("{} = {}\n", key(&field.name), field.term)));
    }
    if draft.source == Store::Postgres {
        text.push_str(
            "\n# CHOICE drop: a column that no term reads is named in legacy.toml, with the reason: [table.NAME.drop] column = \"WHY\".\n",
        );
    }
    text
}

/// `target.sql` or `target.toml`.
pub(super) fn target(draft: &Draft) -> String {
    let (mark, about) = match draft.target {
        Store::Postgres => (
            "--",
            "tables as the old ones, under new names. Defaults, checks, triggers and sequences are the application's:\n\
             -- add them before cutover. So are the keys that are not taken over: they hold among rows of different units, which are\n\
             -- written apart and in any order. Within a unit a foreign key may stand here, parents first.",
        ),
        Store::DynamoDb => ("#", "tables as the old ones."),
    };
    let mut text = format!("{mark} {}: {about}\n", one_line(&draft.name));
    if !draft.preamble.is_empty() {
        text.push('\n');
        text.push_str(&draft.preamble);
    }
    for table in &draft.tables {
        text.push('\n');
        text.push_str(&table.definition);
    }
    text
}

/// Examples, one for each table.
pub(super) fn cases(draft: &Draft) -> String {
    let mut text = format!(
        "# {}: made-up rows, and what must become of them. `rehome check` runs these examples; let them show what you decide.\n",
        one_line(&draft.name)
    );
    for table in &draft.tables {
        let given = table.columns.iter().filter_map(|column| Some((&column.name, column.made_up.as_ref()?)));
        let given = given.chain(table.also_given.iter().map(|(name, value)| (name, value)));
        let expected = table.fields.iter().filter_map(|Field { name, expected, .. }| Some((name, expected.as_ref()?)));
        let expected = expected.chain(table.also_expected.iter().map(|(name, value)| (name, value)));
        let sentence = format!("a row of {} becomes one of {}", table.live, table.target_live);
        text.push_str(&format!(
            "\n[[case]]\nname = {}\nunit = {}\ngiven.{alias} = [{}]\n\n[case.expect]\nmapped = {{ {alias} = 1 }}\nrows.{} = [{}]\n",
            quoted(&sentence),
            quoted(&table.example_unit),
            row(given),
            key(&table.target),
            row(expected),
            alias = key(&table.alias),
        ));
    }
    text
}

fn row<'a>(cells: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let cells: Vec<String> = cells.map(|(name, value)| format!("{} = {value}", key(name))).collect();
    format!("{{ {} }}", cells.join(", "))
}

/// The rules by which both sides are compared.
pub(super) fn rules(draft: &Draft) -> String {
    let mut text = format!(
        "# {}: what must hold of both sides, whatever the mapping says. docs/rules.md describes the language.\nmigration = {}\n",
        one_line(&draft.name),
        quoted(&draft.name)
    );
    for table in &draft.tables {
        text.push_str(&expect(table));
    }
    text
}

/// An invariant that does not go through the mapping: each row is there once.
fn expect(table: &Table) -> String {
    let by = |names: Vec<&String>| {
        let names: Vec<String> = names.into_iter().map(|name| format!(".{name}")).collect();
        if names.is_empty() { String::new() } else { format!("by = {}, ", list(names.iter().map(String::as_str))) }
    };
    let (legacy, target) = (
        by(table.counted_by.iter().map(|(name, _)| name).collect()),
        by(table.counted_by.iter().map(|(_, name)| name).collect()),
    );
    format!(
        "\n[[expect]]\nname = {}\nleft = [{{ legacy = {}, {legacy}add = 1 }}]\nis = \"=\"\nright = [{{ target = {}, {target}add = 1 }}]\n\
         reason = \"each row is carried, and none is made up\"\n",
        quoted(&format!("every row of {} is one row of {}", table.live, table.target_live)),
        quoted(&table.alias),
        quoted(&table.target),
    )
}

fn store(store: Store) -> &'static str {
    match store {
        Store::Postgres => "postgres",
        Store::DynamoDb => "dynamodb",
    }
}
