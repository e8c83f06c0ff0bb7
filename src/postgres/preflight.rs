//! Preflight: what a database lacks for capture, each with its place and its fix, before anything is made in it.

use sqlx::{PgConnection, Row as _};

use super::catalog::{self, Checked, Identity, Table};
use super::error::sql;
use super::partitions::{self, Partition};
use crate::event::RelationName;
use crate::source::Error;
pub use crate::source::{Absence, Finding, Severity};

/// A table to capture, and what it is expected to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableExpectation {
    /// Schema and name.
    pub name: RelationName,
    /// Columns that must be there; others may be there too.
    pub columns: Vec<ColumnExpectation>,
    /// What it means that there is no such table.
    pub absence: Absence,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    /// What is missing, and what a person should know; errors first.
    pub findings: Vec<Finding>,
    /// Tables that are not there, and need not be.
    pub skipped: Vec<RelationName>,
}

/// A column that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnExpectation {
    /// Its name.
    pub name: Box<str>,
    /// The catalog's name of its type; `None` when any will do.
    pub type_name: Option<Box<str>>,
}

/// What of the server decides whether it can be captured from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ServerFacts {
    version: i32,
    wal_level: String,
    standby: bool,
    slots_max: i64,
    slots_used: i64,
    senders_max: i64,
    senders_used: i64,
    may_replicate: bool,
    may_create: bool,
}

/// Looks for everything that is missing for a capture of `tables`; all of it, not just the first.
///
/// # Errors
/// When the server cannot be asked.
pub async fn preflight(
    connection: &mut PgConnection,
    tables: &[TableExpectation],
    own_slot: Option<&str>,
) -> Result<Looked, Error> {
    let facts = server_facts(connection, own_slot).await?;
    let mut findings = server_findings(&facts);
    let mut skipped = Vec::new();
    for expectation in tables {
        let table = catalog::table(connection, &expectation.name).await?;
        let may_read = match &table {
            Some(table) => may_read(connection, table.oid).await?,
            None => true,
        };
        findings.extend(table_findings(expectation, table.as_ref(), may_read));
        if let Some(table) = &table {
            findings.extend(owner_finding(connection, &expectation.name, table.oid).await?);
        }
        match &table {
            Some(table) => {
                findings.extend(leaf_findings(connection, &expectation.name, table).await?);
                findings.extend(identity_findings(connection, &expectation.name, table).await?);
                findings.extend(heir_finding(connection, &expectation.name, table).await?);
            }
            None if expectation.absence == Absence::Skipped => skipped.push(expectation.name.clone()),
            None => {}
        }
    }
    findings.extend(twofold_findings(connection, tables).await?);
    if !tables.is_empty() && skipped.len() == tables.len() {
        let fix = "correct the address, or schema and names in legacy.toml";
        findings.push(finding(Severity::Error, "source", "it has none of the tables, optional as each is", fix));
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(Looked { findings, skipped })
}

async fn server_facts(connection: &mut PgConnection, own_slot: Option<&str>) -> Result<ServerFacts, Error> {
    const ACTION: &str = "look the server over";
    let row = sqlx::query(
        "select current_setting('server_version_num')::int4 as version, current_setting('wal_level') as wal_level, \
         pg_is_in_recovery() as standby, current_setting('max_replication_slots')::int8 as slots_max, \
         (select count(*) from pg_replication_slots where slot_name is distinct from $1) as slots_used, \
         current_setting('max_wal_senders')::int8 as senders_max, \
         (select count(*) from pg_stat_replication) as senders_used, \
         coalesce((select rolreplication or rolsuper from pg_roles where rolname = current_user), false) \
           as may_replicate, \
         has_database_privilege(current_database(), 'CREATE') as may_create",
    )
    .bind(own_slot)
    .fetch_one(connection)
    .await
    .map_err(sql(ACTION))?;
    let number = |column: &str| row.try_get::<i64, _>(column).map_err(sql(ACTION));
    let flag = |column: &str| row.try_get::<bool, _>(column).map_err(sql(ACTION));
    Ok(ServerFacts {
        version: row.try_get("version").map_err(sql(ACTION))?,
        wal_level: row.try_get("wal_level").map_err(sql(ACTION))?,
        standby: flag("standby")?,
        slots_max: number("slots_max")?,
        slots_used: number("slots_used")?,
        senders_max: number("senders_max")?,
        senders_used: number("senders_used")?,
        may_replicate: flag("may_replicate")?,
        may_create: flag("may_create")?,
    })
}

/// Whether the role may read the table.
async fn may_read(connection: &mut PgConnection, oid: u32) -> Result<bool, Error> {
    sqlx::query_scalar("select has_table_privilege($1::oid, 'SELECT')")
        .bind(sqlx::postgres::types::Oid(oid))
        .fetch_one(connection)
        .await
        .map_err(sql("ask for a table's privileges"))
}

/// What to say of a table that the role may not publish, because neither it nor a role that it is a member of owns it. One that
/// is published already is not asked about: someone who may has done it.
async fn owner_finding(connection: &mut PgConnection, name: &RelationName, oid: u32) -> Result<Option<Finding>, Error> {
    let owner: Option<(String, String)> = sqlx::query_as(
        "select c.relowner::regrole::text, current_user::text from pg_class c where c.oid = $1::oid \
         and not pg_has_role(c.relowner, 'USAGE') \
         and not exists (select from pg_publication_rel r where r.prrelid = c.oid)",
    )
    .bind(sqlx::postgres::types::Oid(oid))
    .fetch_optional(connection)
    .await
    .map_err(sql("ask who owns a table"))?;
    Ok(owner.map(|(owner, role)| {
        let what = "the role does not own it, and only an owner can put it into a publication";
        finding(Severity::Error, &name.to_string(), what, format!("grant {owner} to {role}"))
    }))
}

fn finding(severity: Severity, place: &str, what: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { what: what.into(), place: place.to_owned(), fix: fix.into(), severity }
}

/// What is wrong with the server.
fn server_findings(facts: &ServerFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut error = |place: &str, what: String, fix: &str| findings.push(finding(Severity::Error, place, what, fix));
    if facts.version < 140_000 {
        let what =
            format!("the server is version {}, logical messages and range scans need 14", facts.version / 10_000);
        error("server_version", what, "upgrade the server to 14 or later");
    }
    if facts.standby {
        error("server", "it is a standby, on which no publication can be made".into(), "connect to the primary");
    }
    if facts.wal_level != "logical" {
        let what = format!("wal_level is {}, not logical", facts.wal_level);
        error("wal_level", what, "alter system set wal_level = logical; then restart the server");
    }
    if facts.slots_used >= facts.slots_max {
        let what = format!("all {} replication slots are taken", facts.slots_max);
        error(
            "max_replication_slots",
            what,
            "drop an unused slot, or raise max_replication_slots and restart the server",
        );
    }
    // One session streams, one holds the exported snapshot.
    if facts.senders_max - facts.senders_used < 2 {
        let what = format!("{} of {} WAL senders are taken, two are needed", facts.senders_used, facts.senders_max);
        error("max_wal_senders", what, "raise max_wal_senders and restart the server");
    }
    if !facts.may_replicate {
        let fix = "alter role … replication, as a superuser (on a managed service: grant its replication role)";
        error("role", "the role may not replicate".into(), fix);
    }
    if !facts.may_create {
        let fix = "grant create on database … to the role, or make the publication as its owner";
        error("database", "the role may not make a publication in this database".into(), fix);
    }
    findings
}

/// What is wrong with a table.
fn table_findings(expectation: &TableExpectation, table: Option<&Table>, may_read: bool) -> Vec<Finding> {
    let place = expectation.name.to_string();
    let Some(table) = table else {
        let fix = "correct its schema or name, or remove it from the tables to capture";
        return vec![match expectation.absence {
            Absence::Error => finding(Severity::Error, &place, "there is no such table", fix),
            Absence::Skipped => {
                let what = "there is no such table: it is skipped, being optional";
                finding(Severity::Warning, &place, what, "nothing, unless its schema or name is wrong")
            }
        }];
    };
    let mut findings = Vec::new();
    let mut error = |what: &str, fix: &str| findings.push(finding(Severity::Error, &place, what, fix));
    if !table.logged {
        error("it is unlogged or temporary: its changes are never in the stream", "alter table … set logged");
    }
    if !may_read {
        error("the role may not read it", "grant select on it to the role");
    }
    match table.identity {
        Identity::Nothing => error(
            "its replica identity is nothing: once it is published, updates and deletes of the application fail",
            "alter table … replica identity default, with a primary key",
        ),
        _ if table.shape.key.is_empty() && table.checked == Checked::Deferrable => error(
            "its primary key is deferrable: the stream does not tell rows apart by it",
            "alter table … drop constraint its primary key, add primary key (…), in one statement and not deferrable",
        ),
        _ if table.shape.key.is_empty() => error(
            "it has no primary key: once it is published, updates and deletes of the application may fail, and rows \
             cannot be told apart",
            "add a primary key, or a unique index over not-null columns and alter table … replica identity using index",
        ),
        _ => {}
    }
    for column in &expectation.columns {
        let found = table.shape.relation.columns.iter().find(|found| found.name == column.name);
        let place = format!("{place}.{}", column.name);
        match (found, &column.type_name) {
            (None, _) => {
                let fix = "correct its name; a generated column cannot be captured, compute it in the mapping";
                findings.push(finding(Severity::Error, &place, "there is no such column, or it is generated", fix));
            }
            (Some(found), Some(type_name)) if found.type_name != *type_name => {
                let what = format!("its type is {}, not {type_name}", found.type_name);
                findings.push(finding(Severity::Error, &place, what, "correct the type that is expected of it"));
            }
            _ => {}
        }
    }
    if table.partitioned {
        let fix = "choose the time for TRUNCATE, DROP, DETACH and ATTACH of partitions while the migration runs";
        let what = "it is partitioned: the server's stream does not tell of a TRUNCATE of a single partition, and after that, and \
                    after DROP, DETACH, or ATTACH of one with rows, everything is read again in a new epoch";
        findings.push(finding(Severity::Warning, &place, what, fix));
    }
    findings
}

/// What is wrong with partitions: foreign or unlogged ones hold rows that the stream never tells of.
async fn leaf_findings(
    connection: &mut PgConnection,
    name: &RelationName,
    table: &Table,
) -> Result<Vec<Finding>, Error> {
    const ACTION: &str = "look partitions over";
    let rows = sqlx::query(
        "select t.relid::regclass::text as leaf, c.relkind::text as kind, c.relpersistence::text as persistence, \
         coalesce(am.amname, 'heap')::text as access \
         from (select $1::oid as relid union select relid::oid from pg_partition_tree($1::oid::regclass) where isleaf) t \
         join pg_class c on c.oid = t.relid left join pg_am am on am.oid = c.relam where c.relkind <> 'p'",
    )
    .bind(sqlx::postgres::types::Oid(table.oid))
    .fetch_all(connection)
    .await
    .map_err(sql(ACTION))?;
    let mut findings = Vec::new();
    for row in &rows {
        let text = |column: &str| row.try_get::<String, _>(column).map_err(sql(ACTION));
        let place = if table.partitioned { format!("{name}, partition {}", text("leaf")?) } else { name.to_string() };
        if text("kind")? == "f" {
            let fix = "detach it, or capture it where its rows are";
            findings.push(finding(Severity::Error, &place, "it is a foreign table: it is not in the stream", fix));
        } else if table.partitioned && text("persistence")? != "p" {
            let what = "it is unlogged: its changes are never in the stream";
            findings.push(finding(Severity::Error, &place, what, "alter table … set logged"));
        }
        if text("access")? != "heap" {
            let what = format!("its access method is {}, whose rows have no places to copy by", text("access")?);
            findings.push(finding(Severity::Error, &place, what, "alter table … set access method heap"));
        }
    }
    Ok(findings)
}

/// What is wrong with partitions that tell less of a changed row than their table promises.
async fn identity_findings(
    connection: &mut PgConnection,
    name: &RelationName,
    table: &Table,
) -> Result<Vec<Finding>, Error> {
    let columns = &table.shape.relation.columns;
    let key: Vec<String> = table.shape.key.iter().map(|index| columns[*index].name.to_string()).collect();
    let identity = match table.identity {
        Identity::Full => "full".to_owned(),
        Identity::Index => format!("using index …, its unique index over {}", key.join(", ")),
        Identity::Default | Identity::Nothing => "default".to_owned(),
    };
    let partitions = partitions::of(connection, table.oid).await?;
    let less = partitions.iter().filter(|partition| !partition.tells(table.identity, &key));
    let one = |partition: &Partition| {
        let what = "its replica identity tells less of a changed row than that of its table: changes would be lost";
        let fix = format!("alter table {} replica identity {identity}", partition.name);
        finding(Severity::Error, &format!("{name}, partition {}", partition.name), what, fix)
    };
    Ok(less.map(one).collect())
}

/// What to say of a table that others inherit from, other than as its partitions: it shows their rows as its own, and the stream
/// tells them as theirs.
async fn heir_finding(
    connection: &mut PgConnection,
    name: &RelationName,
    table: &Table,
) -> Result<Option<Finding>, Error> {
    if table.partitioned {
        return Ok(None);
    }
    let heirs: Vec<String> =
        sqlx::query_scalar("select inhrelid::regclass::text from pg_inherits where inhparent = $1 order by 1")
            .bind(sqlx::postgres::types::Oid(table.oid))
            .fetch_all(connection)
            .await
            .map_err(sql("ask who inherits from a table"))?;
    Ok((!heirs.is_empty()).then(|| {
        let what = format!("{} inherit from it: their rows are not its own in copy and stream", heirs.join(", "));
        let fix = "alter table … no inherit, for each of them, and capture them as tables of their own; or make it a partitioned table";
        finding(Severity::Error, &name.to_string(), what, fix)
    }))
}

/// What to say of tables that are partitions of other ones: the copy would tell their rows twice, and the stream as the other's.
async fn twofold_findings(connection: &mut PgConnection, tables: &[TableExpectation]) -> Result<Vec<Finding>, Error> {
    let part =
        |of: fn(&RelationName) -> &str| tables.iter().map(|table| of(&table.name).to_owned()).collect::<Vec<_>>();
    let pairs: Vec<(String, String)> = sqlx::query_as(
        "with wanted as (select c.oid, c.relispartition, w.schema || '.' || w.name as name \
           from unnest($1::text[], $2::text[]) as w (schema, name) join pg_namespace n on n.nspname = w.schema \
           join pg_class c on c.relnamespace = n.oid and c.relname = w.name) \
         select part.name, root.name from wanted part cross join lateral pg_partition_ancestors(part.oid) as above (oid) \
           join wanted root on root.oid = above.oid where part.relispartition and root.oid <> part.oid order by 1, 2",
    )
    .bind(part(|name| &name.schema))
    .bind(part(|name| &name.table))
    .fetch_all(connection)
    .await
    .map_err(sql("ask which tables are partitions of others"))?;
    let twofold = |(place, root): (String, String)| {
        let what = format!("it is a partition of {root}, which is captured too: its rows are that table's");
        finding(Severity::Error, &place, what, format!("take it, or {root}, out of legacy.toml"))
    };
    Ok(pairs.into_iter().map(twofold).collect())
}

/// What to say of a slot that is in danger of being lost, or of filling the server's disk.
///
/// `abandon_at` is the number of retained bytes at which it will be given up.
pub fn slot_finding(name: &str, slot: &super::provision::SlotFacts, abandon_at: Option<u64>) -> Option<Finding> {
    let place = format!("replication slot {name}");
    let retained = u64::try_from(slot.retained_bytes.unwrap_or(0)).unwrap_or(0);
    let fix = "let the capture catch up (disk of the log, network), or raise max_slot_wal_keep_size";
    match (slot.wal_status.as_str(), slot.safe_wal_bytes) {
        ("lost", _) => {
            return Some(finding(
                Severity::Error,
                &place,
                "it is lost: the server removed WAL it needs",
                "a new epoch",
            ));
        }
        ("unreserved", _) => {
            let what = "the server may remove the WAL it needs at its next checkpoint";
            return Some(finding(Severity::Warning, &place, what, fix));
        }
        // Less left than is already kept: more than half of what the server allows is used up.
        (_, Some(safe)) if u64::try_from(safe).unwrap_or(0) < retained => {
            let what = format!("{safe} bytes of WAL may still be written before it is in danger");
            return Some(finding(Severity::Warning, &place, what, fix));
        }
        _ => {}
    }
    let limit = abandon_at?;
    (retained > limit / 2).then(|| {
        let what = format!("it keeps {retained} bytes of WAL, and is abandoned at {limit}");
        finding(Severity::Warning, &place, what, "let the capture catch up, or raise the limit")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> ServerFacts {
        ServerFacts {
            version: 150_000,
            wal_level: "logical".into(),
            standby: false,
            slots_max: 10,
            slots_used: 0,
            senders_max: 10,
            senders_used: 0,
            may_replicate: true,
            may_create: true,
        }
    }

    #[test]
    fn a_ready_server_has_no_findings() {
        assert_eq!(server_findings(&facts()), []);
    }

    #[test]
    fn every_missing_thing_is_named() {
        let bad = ServerFacts {
            version: 130_009,
            wal_level: "replica".into(),
            standby: true,
            slots_used: 10,
            senders_used: 9,
            may_replicate: false,
            may_create: false,
            ..facts()
        };
        let places: Vec<String> = server_findings(&bad).into_iter().map(|finding| finding.place).collect();
        let expected =
            ["server_version", "server", "wal_level", "max_replication_slots", "max_wal_senders", "role", "database"];
        assert_eq!(places, expected);
    }

    #[test]
    fn a_slot_in_danger_is_told_before_it_is_lost() {
        let slot = |status: &str, safe, retained| super::super::provision::SlotFacts {
            confirmed: None,
            restart: None,
            active: true,
            wal_status: status.into(),
            safe_wal_bytes: safe,
            retained_bytes: Some(retained),
            wal_end: crate::event::Lsn(0),
        };
        let severity = |slot, limit| slot_finding("s", &slot, limit).map(|finding| finding.severity);
        assert_eq!(severity(slot("reserved", Some(100), 10), None), None);
        assert_eq!(severity(slot("reserved", Some(10), 100), None), Some(Severity::Warning));
        assert_eq!(severity(slot("unreserved", None, 0), None), Some(Severity::Warning));
        assert_eq!(severity(slot("lost", None, 0), None), Some(Severity::Error));
        assert_eq!(severity(slot("reserved", None, 60), Some(100)), Some(Severity::Warning));
        assert_eq!(severity(slot("reserved", None, 40), Some(100)), None);
    }
}
