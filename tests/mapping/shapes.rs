//! Shapes that would never run are refused, and what a row is refused for holds back what its reason says, and no more.

use rehome::mapping::{Condition, Migration, SourceFile, Sources};

use crate::support::{assert_examples_hold, assert_refused, assert_small_holds, edited, small};

/// Children of parents, which are made up where there is none.
const PARENTS: [&str; 3] = [
    r#"
        [table.parents]
        key = ["id"]
        role = "unit"
        unit_lookup = "key"
        columns = { id = "text not null", kind = "text", at = "timestamptz not null" }
        [table.children]
        key = ["id"]
        role = "unit"
        unit_lookup = "scan"
        columns = { id = "bigint not null", parent = "text not null", kind = "text", at = "timestamptz not null" }
        drop = { at = "the old writer's own" }
    "#,
    r#"
        unknown_kind = "row"
        [unit]
        parents = "id"
        children = "parent"
        [time]
        parents = "at"
        children = "at"
        [count]
        made_up = "parents that children name and nobody wrote"
        plain = "children of the plain kind"
        [counted.children]
        plain = { is = { given = ".kind", refuse = "unknown_kind" }, one_of = ["plain"] }
        [cases.kind]
        plain = "p"
        [[map]]
        from = "parents"
        to = "parents"
        columns = { id = ".id", kind = { case = "kind", of = { first = [".kind"] }, null = "?", refuse = "unknown_kind" }, at = ".at" }
        synthesise = { count = "made_up", values = { id = "@unit", at = "@earliest" } }
        [[map]]
        from = "children"
        to = "children"
        columns = { id = ".id", parent = ".parent" }
    "#,
    "CREATE TABLE parents (id TEXT PRIMARY KEY, kind TEXT NOT NULL, at TIMESTAMPTZ NOT NULL); \
     CREATE TABLE children (id BIGINT PRIMARY KEY, parent TEXT NOT NULL REFERENCES parents (id));",
];

#[test]
fn nothing_is_made_up_where_a_row_was_read() {
    let [legacy, mapping, target] = PARENTS;
    let cases = r#"
        [[case]]
        name = "a parent that nobody wrote is made up"
        unit = "p"
        given.children = [{ id = 1, parent = "p", kind = "plain", at = 100 }]
        [case.expect]
        counts = { made_up = 1, plain = 1 }
        rows.parents = [{ id = "p", kind = "?", at = 100 }]
        rows.children = [{ id = 1 }]

        [[case]]
        name = "a parent that is quarantined is not made up beside its account, and its children are as they are"
        unit = "p"
        given.parents = [{ id = "p", kind = "odd", at = 100 }]
        given.children = [{ id = 1, parent = "p", kind = "plain", at = 100 }]
        [case.expect]
        counts = { plain = 1 }
        quarantined = { parents = { unknown_kind = 1 } }
        rows.children = [{ id = 1, parent = "p" }]
    "#;
    assert_small_holds(legacy, &format!("{mapping}{cases}"), target);
}

#[test]
fn a_condition_that_counts_holds_back_the_row_that_it_refuses_and_no_other() {
    let [legacy, mapping, target] = PARENTS;
    let cases = r#"
        [[case]]
        name = "a child without a kind that is known is quarantined, and its key collides with none"
        unit = "p"
        given.parents = [{ id = "p", at = 100 }]
        given.children = [{ id = 1, parent = "p", at = 100 }, { id = 2, parent = "p", kind = "plain", at = 100 }]
        [case.expect]
        counts = { plain = 1 }
        mapped = { parents = 1, children = 1 }
        quarantined = { children = { unknown_kind = 1 } }
        rows.parents = [{ id = "p" }]
        rows.children = [{ id = 2 }]
    "#;
    assert_small_holds(legacy, &format!("{mapping}{cases}"), target);
    // Also where the term asks another row, so that only the second look tells, and where the other child has its key.
    let kinds = "[table.kinds]\nkey = [\"kind\"]\nrole = \"lookup\"\ncolumns = { kind = \"text not null\" }";
    let reference = "[reference.kind]\ntable = \"kinds\"\nmatch = [\".kind\"]\nselect = { name = \".kind\" }\nby.children = [\".kind\"]";
    let mapping =
        [("given = \".kind\"", "given = \"@kind.name\""), ("id = \".id\", parent", "id = \"@seven\", parent")]
            .iter()
            .fold(format!("{mapping}{reference}\n"), |text, (from, to)| {
                assert!(text.contains(from), "{from}");
                text.replace(from, to)
            });
    let seven = "[let.children]\nseven = { if = { absent = \".id\" }, then = 1, else = 7 }\n";
    let cases = cases
        .replace("given.parents", "given.kinds = [{ kind = \"plain\" }]\ngiven.parents")
        .replace("counts = ", "lookup = { kinds = 1 }\ncounts = ")
        .replace("rows.children = [{ id = 2 }]", "rows.children = [{ id = 7 }]");
    assert_small_holds(&format!("{legacy}\n{kinds}"), &format!("{mapping}{seven}{cases}"), target);
}

#[test]
fn a_row_that_is_refused_for_itself_parks_no_group_that_it_is_not_in() {
    let legacy = r#"
        [table.names]
        key = ["name"]
        role = "lookup"
        columns = { name = "text not null" }
        [table.rows]
        key = ["id"]
        role = "unit"
        unit_lookup = "scan"
        columns = { id = "bigint not null", unit = "text not null", name = "text", n = "bigint not null" }
    "#;
    let mapping = r#"
        too_many = "unit"
        unknown_name = "row"
        [unit]
        rows = "unit"
        [reference.name]
        table = "names"
        match = [".name"]
        select = { name = ".name" }
        by.rows = [".name"]
        [[group]]
        from = "rows"
        to = "sums"
        order = [".id"]
        [group.columns]
        unit = "@unit"
        n = { sum = ".n", refuse = "too_many" }
        names = { list = { given = "@name.name", refuse = "unknown_name" } }
        [[case]]
        name = "a sum is that of the rows that stay"
        unit = "u"
        given.names = [{ name = "a" }]
        given.rows = [{ id = 1, unit = "u", name = "a", n = 9223372036854775807 }, { id = 2, unit = "u", n = 1 }]
        [case.expect]
        lookup = { names = 1 }
        quarantined = { rows = { unknown_name = 1 } }
        rows.sums = [{ n = 9223372036854775807, names = '["a"]' }]
    "#;
    let target = "CREATE TABLE sums (unit TEXT PRIMARY KEY, n BIGINT NOT NULL, names JSONB NOT NULL);";
    assert_small_holds(legacy, mapping, target);
}

#[test]
fn a_row_that_is_refused_for_itself_collides_with_none() {
    let legacy = r#"
        [table.names]
        key = ["name"]
        role = "lookup"
        columns = { name = "text not null" }
        [table.rows]
        key = ["id"]
        role = "unit"
        unit_lookup = "scan"
        columns = { id = "bigint not null", unit = "text not null", name = "text", slot = "bigint not null" }
    "#;
    let mapping = r#"
        unknown_name = "row"
        [unit]
        rows = "unit"
        [reference.name]
        table = "names"
        match = [".name"]
        select = { name = ".name" }
        by.rows = [".name"]
        [[map]]
        from = "rows"
        to = "slots"
        columns = { slot = ".slot" }
        [[map]]
        from = "rows"
        to = "named"
        columns = { id = ".id", name = { given = "@name.name", refuse = "unknown_name" } }
        [[case]]
        name = "two rows want one slot, and one of them is no row of the target"
        unit = "u"
        given.names = [{ name = "a" }]
        given.rows = [{ id = 1, unit = "u", slot = 7 }, { id = 2, unit = "u", name = "a", slot = 7 }]
        [case.expect]
        lookup = { names = 1 }
        quarantined = { rows = { unknown_name = 1 } }
        rows.slots = [{ slot = 7 }]
        rows.named = [{ id = 2, name = "a" }]
        [[case]]
        name = "two rows that are both of the target and want one slot are quarantined"
        unit = "u"
        given.names = [{ name = "a" }]
        given.rows = [{ id = 1, unit = "u", name = "a", slot = 7 }, { id = 2, unit = "u", name = "a", slot = 7 }]
        [case.expect]
        lookup = { names = 1 }
        quarantined = { rows = { key_collision = 2 } }
    "#;
    let target =
        "CREATE TABLE slots (slot BIGINT PRIMARY KEY); CREATE TABLE named (id BIGINT PRIMARY KEY, name TEXT NOT NULL);";
    assert_small_holds(legacy, mapping, target);
}

/// luthien, changed, with these examples and no others.
fn luthien_with(edits: &[(&str, &str, &str)], cases: &str) -> Migration {
    let mut sources = edited("schemas/luthien", edits);
    sources.cases = vec![SourceFile::new("luthien/cases/more.toml", cases)];
    Migration::compile(&sources).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn terms_of_an_assembly_hold_back_the_row_that_they_refuse_and_no_other() {
    let defaults = r#"
        [defaults.calls]
        call_id = "c"
        created_at = 1
        updated_at = 1
        [defaults.events]
        call_id = "c"
        hook = "h"
        created_at = 10
        [defaults.tools]
        call_id = "c"
        created_at = 20
    "#;
    let reason = ("mapping.toml", "unknown_event_type = \"row\"", "unknown_event_type = \"row\"\nnot_said = \"row\"");
    let tools = r#"
        [[case]]
        name = "a tool call without a status is quarantined, and the others are what they are"
        unit = "c"
        given.calls = [{}]
        given.tools = [{ id = 1, tool_call_id = "a", name = "f" }, { id = 2, tool_call_id = "b", name = "g", status = "emitted" }]
        [case.expect]
        mapped = { tools = 1 }
        quarantined = { tools = { not_said = 1 } }
        rows.conversation_calls_v2 = [{ call_id = "c" }]
        rows.policy_events = [{ metadata = '{"tool_call_id":"b","name":"g","status":"emitted"}' }]
    "#;
    let status = "status = \".status\"\nplain_status";
    let given = "status = { given = \".status\", refuse = \"not_said\" }\nplain_status";
    let migration = luthien_with(&[reason, ("mapping.toml", status, given)], &format!("{defaults}{tools}"));
    assert_examples_hold(&migration, 1);

    let stream = r#"
        [[case]]
        name = "a chunk without a role is quarantined, and the response is that of the others"
        unit = "c"
        given.calls = [{ status = "success" }]
        given.events = [
            { id = 1, sequence = 1, event_type = "original_chunk", role = "assistant", delta_text = "a" },
            { id = 2, sequence = 2, event_type = "original_chunk", delta_text = "b" },
            { id = 3, sequence = 3, event_type = "original_chunk", role = "assistant", delta_text = "c" },
        ]
        [case.expect]
        mapped = { events = 2 }
        quarantined = { events = { not_said = 1 } }
        rows.conversation_calls_v2 = [{ call_id = "c" }]
        rows.conversation_events_v2 = [{ payload = '{"message":{"role":"assistant","content":"ac"},"finish_reason":null,"status":"success"}' }]
    "#;
    let role = ("mapping.toml", "role = \".role\"", "role = { given = \".role\", refuse = \"not_said\" }");
    assert_examples_hold(&luthien_with(&[reason, role], &format!("{defaults}{stream}")), 1);

    let class = r#"
        [[case]]
        name = "a row whose kind cannot be told is quarantined by itself"
        unit = "c"
        given.calls = [{ status = "success" }]
        given.events = [
            { id = 1, sequence = 1, event_type = "original_chunk", role = "original_chunk", delta_text = "a" },
            { id = 2, sequence = 2, event_type = "original_chunk", delta_text = "b" },
        ]
        [case.expect]
        mapped = { events = 1 }
        quarantined = { events = { not_said = 1 } }
        rows.conversation_calls_v2 = [{ call_id = "c" }]
        rows.conversation_events_v2 = [{}]
    "#;
    let by = ("mapping.toml", "by = \".event_type\"", "by = { given = \".role\", refuse = \"not_said\" }");
    let drop = ("legacy.toml", "hook = \"names", "event_type = \"x\"\nhook = \"names");
    assert_examples_hold(&luthien_with(&[reason, by, drop], &format!("{defaults}{class}")), 1);

    let parent = r#"
        [[case]]
        name = "a call without a status is quarantined by itself, and its turns are as without it"
        unit = "c"
        given.calls = [{}]
        given.events = [{ id = 1, sequence = 1, event_type = "original_chunk", delta_text = "a" }]
        [case.expect]
        quarantined = { calls = { not_said = 1 } }
        rows.conversation_events_v2 = [{ payload = '{"message":{"role":"assistant","content":"a"},"finish_reason":null,"status":"unknown"}' }]
    "#;
    let status = "status = { case = \"status\", of = \".status\", null = \"unknown\" }\n\n[assembly.response.payload]";
    let given = "status = { if = { absent = \".created_at\" }, then = \"unknown\", else = { given = \".status\", refuse = \"not_said\" } }\n\n[assembly.response.payload]";
    let migration = luthien_with(&[reason, ("mapping.toml", status, given)], &format!("{defaults}{parent}"));
    assert_examples_hold(&migration, 1);
}

#[test]
fn shapes_that_would_never_run_are_refused() {
    let part = |table: &str| format!("[part]\n{table} = []\n\n[time]\n");
    let refused = |edits: &[(&str, &str, &str)], place: &str, message: &str, fix: &str| {
        assert_refused(&edited("schemas/luthien", edits), place, message, fix);
    };
    let whole = "take it out of [part]: an assembly sees all rows of its unit together";
    for (table, message) in [
        ("events", "the assembly reads `events`, so its rows are no parts"),
        ("calls", "the assembly reads `calls`, so its rows are no parts"),
        ("tools", "the assembly reads `tools`, so its rows are no parts"),
    ] {
        refused(&[("mapping.toml", "[time]\n", &part(table))], &format!("{table} = []"), message, whole);
    }
    let seen = "use it in a [[map]] of a table without [part], in a mapping with [assembly]";
    refused(
        &[("mapping.toml", "[time]\n", &part("judge"))],
        "\"@response.original\"",
        "`@response.original` is worked out by an assembly, and none is seen here",
        seen,
    );
    refused(
        &[(
            "mapping.toml",
            "[count]\n",
            "[counted.judge]\nodd = { absent = \"@response.original\" }\n\n[count]\nodd = \"x\"\n",
        )],
        "\"@response.original\"",
        "`@response.original` is worked out by an assembly, and none is seen here",
        seen,
    );
    refused(
        &[("mapping.toml", "[count]\n", "[counted.events]\nodd = { absent = \".role\" }\n\n[count]\nodd = \"x\"\n")],
        "events",
        "the assembly reads `events` as its stream, so its rows are not counted one by one",
        "count rows of another table, or what the assembly itself counts",
    );
    let map = "[[map]]\nfrom = \"judge\"";
    for (table, message, fix) in [
        ("events", "the assembly takes the rows of `events`, so no other shape does", "take this shape out"),
        ("tools", "the assembly takes the rows of `tools`, so no other shape does", "take this shape out"),
    ] {
        let more = format!(
            "[[map]]\nfrom = \"{table}\"\nto = \"policy_events\"\ncolumns = {{ id = \".id\", call_id = \".call_id\", policy_class = \"x\", event_type = \"x\", created_at = \".created_at\" }}\n\n{map}"
        );
        refused(&[("mapping.toml", map, &more)], &format!("\"{table}\""), message, fix);
        let more = format!(
            "[[group]]\nfrom = \"{table}\"\norder = [\".id\"]\nto = \"policy_events\"\ncolumns = {{ id = \".id\", call_id = \".call_id\", policy_class = \"x\", event_type = \"x\", created_at = \".created_at\" }}\n\n{map}"
        );
        refused(&[("mapping.toml", map, &more)], &format!("\"{table}\""), message, fix);
    }
    refused(
        &[
            ("mapping.toml", "from = \"tools\"\nid", "from = \"events\"\nid"),
            (
                "mapping.toml",
                ".tool_call_id\"\nname = \".name\"\narguments = \".arguments\"\nresponse = \".response\"\nstatus = \".status\"",
                ".role\"\nname = \".role\"\narguments = \".payload\"\nresponse = \".payload\"\nstatus = \".role\"",
            ),
        ],
        "\"events\"",
        "`events` is the stream of this assembly already",
        "name another table",
    );
    refused(
        &[("mapping.toml", "parent = \"calls\"", "parent = \"events\"")],
        "\"events\"",
        "`events` is the stream of this assembly already",
        "name another table",
    );
}

#[test]
fn outputs_of_an_assembly_need_one() {
    let [legacy, mapping, target] = PARENTS;
    let sources = small(legacy, &mapping.replace("[\".kind\"]", "[\"@completion.status\", \".kind\"]"), target);
    assert_refused(
        &sources,
        "\"@completion.status\"",
        "`@completion.status` is worked out by an assembly, and none is seen here",
        "use it in a [[map]] of a table without [part], in a mapping with [assembly]",
    );
}

#[test]
fn a_row_is_made_up_only_where_the_unit_is_seen_whole() {
    let [legacy, mapping, target] = PARENTS;
    let parts = mapping.replace("[time]\n", "[part]\nparents = []\n[time]\n");
    assert_refused(
        &small(legacy, &parts, target),
        "\"made_up\"",
        "nobody sees that `parents` has no row: its rows are parts of their own",
        "take the table out of [part], or `synthesise` out of this map",
    );
}

#[test]
fn lookups_have_no_shapes_parts_or_counts() {
    let semantik = |edits: &[(&str, &str, &str)]| edited("schemas/semantik", edits);
    let (message, fix) =
        ("`users` is a lookup, whose rows belong to no unit", "give it the role `unit`, or refer to it");
    let map = "[[map]]\nfrom = \"users\"\nto = \"operations\"\ncolumns = {}\n\n# One job, one operation.";
    let sources = semantik(&[("mapping.toml", "# One job, one operation.", map)]);
    assert_refused(&sources, "\"users\"", message, fix);
    let sources = semantik(&[("mapping.toml", "[part]\n", "[part]\nusers = []\n")]);
    assert_refused(&sources, "users = []", message, fix);
    let sources = semantik(&[(
        "mapping.toml",
        "[counted.jobs]",
        "[counted.users]\ndefault_owner = { absent = \".id\" }\n\n[counted.jobs]",
    )]);
    assert_refused(&sources, "users]", message, fix);
}

/// What is refused of a table whose group drops all rows but the first.
fn others(more: &str) -> Sources {
    edited("schemas/semantik", &[("mapping.toml", "# What readers ask", &format!("{more}\n\n# What readers ask"))])
}

#[test]
fn a_row_that_one_shape_drops_is_taken_by_no_other() {
    let (message, fix) = (
        "a group drops rows of `documents` (`others`), so no other shape takes them",
        "take `others` out of the group, or this shape out",
    );
    let group = "from = \"documents\"\nto = \"documents_v2\"\norder = [\".id\"]\ncolumns = {}";
    for more in [
        "[[map]]\nfrom = \"documents\"\nto = \"operations\"\ncolumns = {}".to_owned(),
        format!("[[group]]\n{group}"),
        format!("[[group]]\nothers = \"duplicate_content\"\n{group}"),
    ] {
        assert_refused(&others(&more), "\"documents\"", message, fix);
    }
}

#[test]
fn a_time_is_always_there() {
    let nullable = ("mapping.toml", "calls = \"created_at\"", "calls = \"completed_at\"");
    assert_refused(
        &edited("schemas/luthien", &[nullable]),
        "\"completed_at\"",
        "the column `completed_at` of `calls` may be NULL, and then nobody knows when its row was written",
        "name a column that is NOT NULL",
    );
}

#[test]
fn a_unit_is_read_backwards_only_where_its_name_has_one_reading() {
    let conditions = |columns: &str, template: &str, unit: &str| -> Vec<(String, Vec<Option<String>>)> {
        let legacy = format!(
            "[table.rows]\nkey = [\"id\"]\nrole = \"unit\"\nunit_lookup = \"scan\"\ncolumns = {{ id = \"bigint not null\", {columns} }}"
        );
        let mapping = format!(
            "[unit]\nrows = {{ id = {{ template = \"{template}\" }} }}\n[[map]]\nfrom = \"rows\"\nto = \"rows\"\ncolumns = {{ id = \".id\" }}"
        );
        let sources = small(&legacy, &mapping, "CREATE TABLE rows (id BIGINT PRIMARY KEY);");
        let migration = Migration::compile(&sources).unwrap_or_else(|error| panic!("{error}"));
        let reads = migration.unit_reads(unit);
        let told = reads[0].conditions.iter().map(|condition| match condition {
            Condition::Is { column, values } => {
                ((*column).to_owned(), values.iter().map(|value| value.as_ref().map(ToString::to_string)).collect())
            }
            Condition::OfParent { .. } => panic!("no parent"),
        });
        told.collect()
    };
    let is = |column: &str, value: &str| (column.to_owned(), vec![Some(value.to_owned())]);
    let (texts, numbers) =
        ("owner = \"text not null\", name = \"text not null\"", "n = \"bigint not null\", name = \"text not null\"");
    let two = "{.owner}--{.name}";
    assert_eq!(conditions(texts, two, "a--b"), [is("owner", "a"), is("name", "b")]);
    for unsure in ["a---b", "a--b--c", "-----"] {
        assert_eq!(conditions(texts, two, unsure), [], "{unsure}");
    }
    assert_eq!(conditions(texts, two, "a-b"), [("id".to_owned(), vec![])]);
    assert_eq!(conditions(numbers, "{.n}:{.name}", "5:a:b"), [is("n", "5"), is("name", "a:b")]);
    assert_eq!(conditions(numbers, "{.n}-{.name}", "5-a"), [is("n", "5"), is("name", "a")]);
    assert_eq!(conditions(numbers, "{.n}-{.name}", "-5-a-b"), [is("n", "-5"), is("name", "a-b")]);
    assert_eq!(conditions(numbers, "{.n}-{.name}", "--a"), [("id".to_owned(), vec![])]);
    assert_eq!(conditions(numbers, "{.n}1{.name}", "5111"), [], "a digit is no separator");
    let ids = "of = \"uuid not null\", at = \"timestamptz not null\"";
    let known = "00000000-0000-0000-0000-000000000007";
    assert_eq!(
        conditions(ids, "{.of}/{.at}", &format!("{known}/100")),
        [is("of", known)],
        "times have another text there"
    );
    assert_eq!(conditions("of = \"uuid not null\"", "{.of}", "no id"), [("of".to_owned(), vec![])]);
}
