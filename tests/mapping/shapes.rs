//! Shapes that would never run are refused, and what a row is refused for holds back what its reason says, and no more.

use rehome::mapping::Sources;

use crate::support::{assert_refused, assert_small_holds, edited, small};

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
