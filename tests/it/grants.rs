//! README's privileges are enough, and each statement of it runs as it stands.

use std::path::Path;

use crate::support::cluster::{Database, run};
use crate::support::legacy;
use crate::support::rig::Rig;

/// In the place of the one that README leaves to its reader.
const PASSWORD: &str = "a-password";

/// The statements of README that begin with a comment of this word, under other names of roles and database.
fn statements(block: &str, role: &str, database: &str) -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("a file");
    let blocks: Vec<&str> =
        readme.split("```sql\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(sql, _)| sql).collect();
    let found = blocks.iter().find(|sql| sql.starts_with(&format!("-- {block}"))).expect("README has the statements");
    let lines = found.lines().map(|line| line.split_once("--").map_or(line, |(statement, _)| statement));
    let sql = lines.collect::<Vec<_>>().join("\n");
    assert!(sql.contains("CREATE ROLE rehome") && sql.contains("DATABASE app"), "{sql}");
    assert!(sql.contains("PASSWORD '…'"), "{sql}");
    sql.replace('…', PASSWORD)
        .replace("app_owner", &format!("{role}_owner"))
        .replace("rehome", role)
        .replace("DATABASE app", &format!("DATABASE {database}"))
}

/// The address of a database for a role.
fn address(database: &Database, role: &str) -> String {
    let (scheme, rest) = database.url.split_once("//").expect("a URL");
    let (_, place) = rest.split_once('@').expect("a user");
    format!("{scheme}//{role}:{PASSWORD}@{place}")
}

/// Up, run, diff and down with roles that may do what README says and nothing else.
async fn migrate(mut rig: Rig, source: &str, target: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mapping/sample");
    assert!(legacy::load(&mut rig.legacy, &folder).await > 0);
    rig.legacy
        .run(format!(
            "create role {source}_owner; grant create on schema public to {source}_owner; \
             do $$ declare t text; begin for t in select tablename from pg_tables where schemaname = 'public' loop \
               execute format('alter table %I owner to {source}_owner', t); end loop; end $$"
        ))
        .await;
    let own = address(&rig.legacy, source);
    rig.legacy.run(statements("source", source, &rig.legacy.name)).await;
    let theirs = rig.legacy.url.clone();
    rig.legacy.url = own;
    rig.target.url = address(&rig.target, target);
    rig.rehome(&["check", "luthien"]).expect(0);
    rig.rehome(&["up", "luthien"]).expect(0);
    let ran = rig.rehome(&["run", "luthien", "--until", "caught-up"]);
    assert!(ran.code == 0 || ran.code == 2, "{ran:?}");
    let status = rig.status();
    assert_eq!(status["balanced"], true, "{status}");
    assert!(status["conservation"]["target"]["written"].as_u64() > Some(0), "{status}");
    let unit = rig.target.text("select min(call_id) from conversation_calls_v2").await;
    assert_eq!(rig.diff(&unit), (0, "MATCH".to_owned()));
    let down = rig.rehome(&["down", "luthien", "--yes"]).expect(0);
    assert!(down.out.contains("removed publication") && down.out.contains("removed schema rehome"), "{down:?}");
    rig.legacy.url = theirs;
}

#[tokio::test(flavor = "multi_thread")]
async fn readme_s_privileges_are_enough_where_rehome_makes_the_target_tables() {
    let mut rig = Rig::new().await;
    let sql = statements("target", "maker_t", &rig.target.name);
    rig.target.run(sql).await;
    migrate(rig, "maker_s", "maker_t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readme_s_privileges_are_enough_where_the_target_tables_are_there() {
    let mut rig = Rig::new().await;
    let ddl = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/luthien/target.sql"));
    run(&mut rig.target.connection, ddl.expect("a file")).await;
    let sql = statements("target", "user_t", &rig.target.name)
        .replace("GRANT USAGE, CREATE ON SCHEMA", "GRANT USAGE ON SCHEMA");
    rig.target.run(sql).await;
    migrate(rig, "user_s", "user_t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_publish_a_table_is_told_what_it_lacks() {
    let mut rig = Rig::new().await;
    rig.legacy.run("create role stranger_owner; alter table conversation_calls owner to stranger_owner").await;
    rig.legacy
        .run(format!(
            "create role stranger login replication password '{PASSWORD}'; grant connect, create on database {} to stranger; \
             grant usage on schema public to stranger; grant select on all tables in schema public to stranger",
            rig.legacy.name
        ))
        .await;
    rig.legacy.url = address(&rig.legacy, "stranger");
    let check = rig.rehome(&["check", "luthien"]).expect(1);
    assert!(check.out.contains("public.conversation_calls: the role does not own it"), "{check:?}");
    assert!(check.out.contains("grant stranger_owner to stranger"), "{check:?}");
}
