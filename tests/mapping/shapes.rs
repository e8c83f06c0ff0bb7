//! Shapes that would never run are refused, and what a row is refused for holds back what its reason says, and no more.

use crate::support::assert_small_holds;

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
