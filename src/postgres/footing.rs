//! What the stream of an epoch rests on: the publication, the tables behind their names, their partitions, and what rows are told
//! apart by (I4).
//!
//! The stream tells none of it when it changes: a table that leaves the publication is silent, and so is a partition that goes with
//! its rows or comes with them. So it is remembered with the epoch and looked at again. Numbers of the catalog's own rows are part of
//! it, so that what was changed and changed back is a change too.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::catalog::{Identity, KEY_COLUMNS, oid_of};
use super::error::sql;
use super::partitions;
use crate::event::RelationName;
use crate::source::Error;

/// Transactions after which it is remembered anew that a partition lies where it did: rows that came since are older then, and
/// whoever truncates it later is not.
const RENEWED_AFTER: u64 = 1_000;
/// Version of the stored form.
const FORMAT: u32 = 1;

/// What a stream rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Footing {
    format: u32,
    /// The publication's name.
    publication: String,
    /// What it publishes; empty when it is gone.
    published: String,
    /// The tables by name; one that is gone is left out.
    tables: BTreeMap<String, TableFooting>,
}

/// What the stream of a table rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFooting {
    /// The table behind the name, and what its rows are told apart by.
    table: String,
    /// Its entry in the publication; empty when it has none.
    published: String,
    /// Partitions by OID.
    partitions: BTreeMap<u32, PartitionFooting>,
}

/// What the stream of a partition rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartitionFooting {
    name: String,
    /// Its place in the table, and what its rows are told apart by.
    facts: String,
    /// The file that its rows lie in; not told by older builds.
    #[serde(default)]
    file: Option<Lying>,
}

/// Where the rows of a partition lie. A `TRUNCATE` of it by its own name is not in the stream, which speaks of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lying {
    /// Number of the file.
    number: u32,
    /// The oldest transaction that had not ended when that was seen, some time ago.
    horizon: u64,
}

/// What was found at the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What the stream rests on now.
    pub footing: Footing,
    /// New partitions that no row can have come with, and whose changes are told as their table's: what comes into them is in the
    /// stream. And those that lie in another file, with rows that were there before.
    harmless: BTreeSet<u32>,
}

/// Reads what the stream of a publication rests on; `before` is what it rested on when it was last looked at.
///
/// # Errors
/// When the server cannot be asked.
pub async fn read(
    connection: &mut PgConnection,
    publication: &str,
    tables: &[RelationName],
    before: Option<&Footing>,
) -> Result<Found, Error> {
    const ACTION: &str = "look at what the stream rests on";
    let published: Option<String> = sqlx::query_scalar(
        "select concat_ws(' ', oid, xmin, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot) \
         from pg_publication where pubname = $1",
    )
    .bind(publication)
    .fetch_optional(&mut *connection)
    .await
    .map_err(sql(ACTION))?;
    let statement = format!(
        "select wanted.schema, wanted.name, c.oid::int8 as oid, c.relreplident::text as identity, array({KEY_COLUMNS}) as key, \
           coalesce((select r.oid::text from pg_publication_rel r join pg_publication p on p.oid = r.prpubid \
                     where r.prrelid = c.oid and p.pubname = $1), '') as published \
         from unnest($2::text[], $3::text[]) as wanted (schema, name) join pg_namespace n on n.nspname = wanted.schema \
         join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name and c.relkind in ('r', 'p')"
    );
    let part = |of: fn(&RelationName) -> &str| tables.iter().map(|name| of(name).to_owned()).collect::<Vec<_>>();
    let rows = sqlx::query(AssertSqlSafe(statement))
        .bind(publication)
        .bind(part(|name| &name.schema))
        .bind(part(|name| &name.table))
        .fetch_all(&mut *connection)
        .await
        .map_err(sql(ACTION))?;
    // Before the files are looked at: what was written into one that is seen is of this transaction or of a later one, or older.
    let horizon = partitions::horizon(connection).await?;
    let (mut found, mut harmless) = (BTreeMap::new(), BTreeSet::new());
    for row in &rows {
        let text = |column: &str| row.try_get::<String, _>(column).map_err(sql(ACTION));
        let name = RelationName { schema: text("schema")?.into(), table: text("name")?.into() };
        let oid = oid_of(row.try_get("oid").map_err(sql(ACTION))?)?;
        let (identity, key) =
            (Identity::of(&text("identity")?), row.try_get::<Vec<String>, _>("key").map_err(sql(ACTION))?);
        let mut partitions = BTreeMap::new();
        for partition in partitions::of(connection, oid).await? {
            let known = before.and_then(|before| before.partition(&name, partition.oid));
            let lay = known.and_then(|known| known.file);
            let without_loss = match (known, lay.filter(|lay| lay.number != partition.file)) {
                (_, Some(elsewhere)) => {
                    partitions::keeps_rows_before(connection, &partition, elsewhere.horizon).await?
                }
                (Some(_), None) => false,
                (None, None) => {
                    before.is_some()
                        && partition.tells(identity, &key)
                        && partitions::blank(connection, partition.oid).await?
                }
            };
            if without_loss {
                harmless.insert(partition.oid);
            }
            let now = Lying { number: partition.file, horizon };
            let file =
                lay.filter(|lay| lay.number == now.number && horizon < lay.horizon + RENEWED_AFTER).unwrap_or(now);
            let facts = format!("{} {:?} {:?}", partition.attached, partition.identity, partition.key);
            partitions.insert(partition.oid, PartitionFooting { name: partition.name, facts, file: Some(file) });
        }
        let table = format!("{oid} {identity:?} {key:?}");
        found.insert(name.to_string(), TableFooting { table, published: text("published")?, partitions });
    }
    let published = published.unwrap_or_default();
    let footing = Footing { format: FORMAT, publication: publication.to_owned(), published, tables: found };
    Ok(Found { footing, harmless })
}

impl Footing {
    /// The mark's value.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a footing is plain text under plain keys")
    }

    /// Reads [`Footing::to_bytes`]; `None` when it is not of this form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|footing: &Self| footing.format == FORMAT)
    }

    /// A partition of a table, as it was.
    fn partition(&self, table: &RelationName, partition: u32) -> Option<&PartitionFooting> {
        self.tables.get(&table.to_string())?.partitions.get(&partition)
    }

    /// Whether it is another footing, whenever it was looked at.
    pub fn differs(&self, other: &Self) -> bool {
        let timeless = |footing: &Self| {
            let mut footing = footing.clone();
            let partitions = footing.tables.values_mut().flat_map(|table| table.partitions.values_mut());
            partitions.filter_map(|partition| partition.file.as_mut()).for_each(|file| file.horizon = 0);
            footing
        };
        timeless(self) != timeless(other)
    }

    /// Why a stream that rested on this may not have told everything, given what was found since; `None` when it has.
    ///
    /// Of tables that are gone only those in `required` count.
    pub fn lost(&self, found: &Found, required: &[String]) -> Option<String> {
        let (now, publication) = (&found.footing, &self.publication);
        let changed = || Some(format!("publication {publication} was changed by someone else"));
        if self.published != now.published {
            return changed();
        }
        for (name, table) in &self.tables {
            let Some(there) = now.tables.get(name) else {
                if required.contains(name) {
                    return Some(format!("table {name} is gone"));
                }
                continue;
            };
            if table.table != there.table {
                return Some(format!("table {name} is another one now, or its rows are told apart otherwise"));
            }
            if table.published != there.published {
                return changed();
            }
            if let Some(what) = table.partitions_lost(&there.partitions, &found.harmless) {
                return Some(format!("table {name}: {what}"));
            }
        }
        let came = now.tables.keys().find(|name| !self.tables.contains_key(*name));
        came.map(|name| format!("table {name} was not there before"))
    }
}

impl TableFooting {
    /// What became of a partition that the stream did not tell.
    fn partitions_lost(&self, now: &BTreeMap<u32, PartitionFooting>, harmless: &BTreeSet<u32>) -> Option<String> {
        for (oid, partition) in &self.partitions {
            let name = &partition.name;
            match now.get(oid) {
                None => return Some(format!("partition {name} was dropped or detached, and its rows went unseen")),
                Some(there) if there.facts != partition.facts => {
                    return Some(format!("partition {name} was attached again, or its rows are told apart otherwise"));
                }
                Some(there) if !harmless.contains(oid) && there.lies_elsewhere(partition) => {
                    return Some(format!(
                        "partition {name} was truncated or written anew, and its rows may have gone unseen"
                    ));
                }
                Some(_) => {}
            }
        }
        let new = now.iter().find(|(oid, _)| !self.partitions.contains_key(oid) && !harmless.contains(oid));
        new.map(|(_, there)| format!("partition {} was attached, and its rows may have come unseen", there.name))
    }
}

impl PartitionFooting {
    /// Whether its rows lie in another file than they did.
    fn lies_elsewhere(&self, before: &Self) -> bool {
        self.file.zip(before.file).is_some_and(|(now, before)| now.number != before.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footing(partitions: &[(u32, &str)]) -> Footing {
        let partition = |&(oid, facts): &(u32, &str)| {
            let file = Some(Lying { number: 10 * oid, horizon: 700 });
            (oid, PartitionFooting { name: format!("t_{oid}"), facts: facts.to_owned(), file })
        };
        let partitions = partitions.iter().map(partition).collect();
        let table = TableFooting { table: "1".into(), published: "2".into(), partitions };
        Footing {
            format: FORMAT,
            publication: "p".into(),
            published: "3".into(),
            tables: [("public.t".to_owned(), table)].into(),
        }
    }

    fn lost(now: Footing, harmless: &[u32]) -> Option<String> {
        let found = Found { footing: now, harmless: harmless.iter().copied().collect() };
        footing(&[(1, "a"), (2, "a")]).lost(&found, &["public.t".to_owned()])
    }

    #[test]
    fn partitions_that_come_empty_are_the_only_change_without_a_loss() {
        assert_eq!(lost(footing(&[(1, "a"), (2, "a")]), &[]), None);
        assert_eq!(lost(footing(&[(1, "a"), (2, "a"), (3, "a")]), &[3]), None);
        for (now, word) in [
            (footing(&[(1, "a"), (2, "a"), (3, "a")]), "t_3 was attached"),
            (footing(&[(1, "a")]), "t_2 was dropped"),
            (footing(&[(1, "a"), (2, "b")]), "t_2 was attached again"),
            (Footing { tables: BTreeMap::new(), ..footing(&[]) }, "public.t is gone"),
            (Footing { published: String::new(), ..footing(&[]) }, "publication p was changed"),
        ] {
            let reason = lost(now, &[]).expect("a loss");
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn a_partition_in_another_file_lost_rows_unless_some_of_them_are_left() {
        let mut moved = footing(&[(1, "a"), (2, "a")]);
        moved.tables.get_mut("public.t").and_then(|table| table.partitions.get_mut(&2)).expect("there").file =
            Some(Lying { number: 21, horizon: 900 });
        assert!(lost(moved.clone(), &[]).expect("a loss").contains("t_2 was truncated"));
        assert_eq!(lost(moved.clone(), &[2]), None);
        let of_an_older_build = String::from_utf8(footing(&[(1, "a"), (2, "a")]).to_bytes()).expect("text");
        let of_an_older_build = of_an_older_build
            .replace(r#","file":{"number":10,"horizon":700}"#, "")
            .replace(r#","file":{"number":20,"horizon":700}"#, "");
        let before = Footing::from_bytes(of_an_older_build.as_bytes()).expect("it still reads");
        assert!(before.differs(&footing(&[(1, "a"), (2, "a")])));
        let mut later = moved.clone();
        later.tables.values_mut().flat_map(|table| table.partitions.values_mut()).for_each(|partition| {
            partition.file = partition.file.map(|file| Lying { horizon: file.horizon + 5_000, ..file });
        });
        assert!(later != moved && !later.differs(&moved), "only time has passed");
        assert_eq!(before.lost(&Found { footing: moved, harmless: BTreeSet::new() }, &[]), None, "nobody knows");
    }

    #[test]
    fn an_optional_table_may_go_and_is_missed_when_it_comes_again() {
        let gone = Footing { tables: BTreeMap::new(), ..footing(&[]) };
        let found = |footing: &Footing| Found { footing: footing.clone(), harmless: BTreeSet::new() };
        assert_eq!(footing(&[]).lost(&found(&gone), &[]), None);
        assert!(gone.lost(&found(&footing(&[])), &[]).is_some());
    }

    #[test]
    fn a_footing_reads_as_it_was_written() {
        let footing = footing(&[(1, "a")]);
        assert_eq!(Footing::from_bytes(&footing.to_bytes()), Some(footing));
        assert_eq!(Footing::from_bytes(b"{}"), None);
    }
}
