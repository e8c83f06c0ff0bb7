//! Both sides of a comparison, ready to be read: tables cut into ranges, under a snapshot where the store has them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rand::SeedableRng as _;

use crate::capture::plan::{LeafNow, plan};
use crate::dynamo::pace::Pace;
use crate::dynamo::scan::{DynamoScan, Next, Segment, SegmentTask};
use crate::dynamo::{self, table::describe};
use crate::event::{Epoch, Lsn, RelationName, to_hex};
use crate::postgres::snapshot::{PgSnapshot, RangeTask, sight};
use crate::postgres::{Connection, Server, catalog, live, provision};
use crate::reconcile::side::{Extent, Range, Side, Table};
use crate::source::{RangeId, Snapshot};

use super::Error;

/// Bytes of a range of a Postgres table: small enough that several workers end together.
const RANGE_BYTES: u64 = 64 << 20;
/// Bytes of a segment of a DynamoDB table.
const SEGMENT_BYTES: u64 = 256 << 20;
/// Segments of a DynamoDB table, at the least.
const SEGMENTS_MIN: u64 = 4;

/// Ranges that are drawn of all sampled tables of a Postgres side, about: enough for a narrow interval, few enough to open.
const DRAWN_RANGES: f64 = 400.0;
/// Ranges to draw from, at the most.
const RANGES_MAX: u64 = 100_000;
/// A table with fewer blocks is read whole: it costs little, and few blocks say little.
const BLOCKS_MIN: u64 = 64;
/// Bytes of a block.
const BLOCK_BYTES: u64 = 8192;
/// Bytes of a row of a table that is not counted.
const ROW_BYTES_GUESS: u64 = 100;
/// Segments that are drawn of a sampled table of DynamoDB.
const DRAWN_SEGMENTS: f64 = 60.0;
/// Segments that a table may be cut into: a tenth of what the service allows.
const SEGMENTS_MAX: u64 = 100_000;
/// A smaller table is read whole: each segment costs a read unit at the least, however little is in it.
const BYTES_MIN: u64 = 4 << 20;

/// A side, with what keeps its snapshot alive, and about how many rows each of its tables has.
pub(super) struct Opened {
    pub side: Side,
    pub rows: Vec<u64>,
    /// Of each table that is sampled, how many ranges there were to draw from.
    pub drawn: BTreeMap<usize, u64>,
    /// Where a Postgres side stood before its snapshot was taken.
    pub from: Option<Lsn>,
    /// Where it stood when its snapshot was taken, or soon after.
    pub position: Option<Lsn>,
    /// The snapshot of a Postgres side, which also tells whether ranges are as they were.
    pub postgres: Option<Arc<PgSnapshot>>,
    /// The transaction that exported the snapshot.
    pub holder: Option<Connection>,
    /// What a DynamoDB side reads by.
    pub pace: Option<Arc<Pace>>,
}

impl Opened {
    /// Counts the rows of every table that is read, under the side's snapshot and by other means than reading them; DynamoDB has none.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn count(&mut self) -> Result<(), Error> {
        let Some(holder) = &mut self.holder else { return Ok(()) };
        for (table, rows) in self.side.tables.iter_mut().zip(&mut self.rows).filter(|(table, _)| table.read()) {
            *rows = live::count(holder, &table.relation).await?;
            table.counted = Some(*rows);
        }
        Ok(())
    }
}

/// A table to be read, and the columns wanted of it.
pub(super) struct Wanted {
    pub relation: RelationName,
    pub columns: Vec<Box<str>>,
    /// Attributes that the mapping calls otherwise: live name, and the mapping's.
    pub renamed: Vec<(Box<str>, Box<str>)>,
    pub need: Need,
}

/// Whether a table has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// It has.
    Required,
    /// It may lack, and then has no rows.
    Optional,
    /// It is not read: a file stands for it.
    Given,
}

impl Wanted {
    /// The table, not read.
    fn unread(self) -> Table {
        let Self { relation, columns, renamed, .. } = self;
        Table { relation, identity: String::new(), columns, renamed, counted: None }
    }
}

/// How much of a side is read.
pub(super) enum Portion<'c> {
    /// All of it.
    Whole,
    /// Of some tables a share, in ranges drawn at random; of all others every range.
    Sample {
        /// Part of a table that is read, above 0 and at most 1.
        share: f64,
        /// Which tables are sampled.
        tables: &'c BTreeSet<usize>,
    },
}

/// Opens a Postgres side: one exported snapshot, under which its tables can be counted.
pub(super) async fn postgres(server: &Server, name: &'static str, wanted: Vec<Wanted>) -> Result<Opened, Error> {
    postgres_portion(server, name, wanted, &Portion::Whole).await
}

/// As [`postgres`], or a sample of it.
pub(super) async fn postgres_portion(
    server: &Server,
    name: &'static str,
    wanted: Vec<Wanted>,
    portion: &Portion<'_>,
) -> Result<Opened, Error> {
    let mut holder = server.connect().await?;
    let from = live::position(&mut holder).await?;
    let snapshot = provision::export_snapshot(&mut holder).await?;
    let position = live::position(&mut holder).await?;
    let cluster = live::cluster(&mut holder).await?;
    let mut catalogs = server.connect().await?;
    let (mut leaves, mut tables, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for wanted in wanted {
        let found = match wanted.need {
            Need::Given => None,
            Need::Required | Need::Optional => catalog::table(&mut catalogs, &wanted.relation).await?,
        };
        let Some(found) = found else {
            if wanted.need == Need::Required {
                return Err(Error::NoTable { side: name, table: wanted.relation.to_string() });
            }
            rows.push(0);
            tables.push(wanted.unread());
            continue;
        };
        let (mut bytes_of_table, mut relations) = (0, vec![found.oid]);
        for leaf in catalog::leaves(&mut catalogs, found.oid).await? {
            let catalog::Leaf { oid, name, filenode, blocks, bytes } = leaf;
            bytes_of_table += bytes;
            relations.push(oid);
            leaves.push(LeafNow { table: wanted.relation.clone(), name, oid, filenode, blocks, bytes });
        }
        rows.push(bytes_of_table / ROW_BYTES_GUESS);
        let form = live::form(&mut catalogs, &relations).await?;
        let identity = format!("{cluster}, table {}, {}, {form}", found.oid, to_hex(&found.shape.hash.0));
        tables.push(Table { identity, ..wanted.unread() });
    }
    let pass = plan(&BTreeMap::new(), &leaves, range_bytes(portion, &leaves));
    let mut tasks = HashMap::new();
    let mut ranges = Vec::new();
    for (id, range) in pass.add {
        let table = tables.iter().position(|table| table.relation == range.table).unwrap_or_default();
        let end = range.to.or_else(|| leaves.iter().find(|leaf| leaf.oid == range.leaf_oid).map(|leaf| leaf.blocks));
        let pages = u64::from(end.unwrap_or_default().saturating_sub(range.from));
        let extent = Extent::Blocks { leaf: range.leaf.clone(), file: range.filenode, from: range.from, to: range.to };
        ranges.push(Range { id, table, extent, pages });
        let task = RangeTask {
            table: range.table,
            leaf: range.leaf,
            leaf_oid: range.leaf_oid,
            filenode: range.filenode,
            from: range.from,
            to: range.to,
            written_since: None,
        };
        tasks.insert(id, task);
    }
    let drawn = draw(&mut ranges, portion, |index| {
        let in_table = leaves.iter().filter(|leaf| leaf.table == tables[index].relation);
        in_table.map(|leaf| u64::from(leaf.blocks)).sum::<u64>() >= BLOCKS_MIN
    });
    let seen = sight(server, &snapshot).await?.map(|sight| sight.xmin);
    let snapshot_name = snapshot.clone();
    let snapshot = Arc::new(PgSnapshot::new(server.clone(), snapshot, Epoch(0), tasks));
    let side = Side {
        name,
        snapshot: Arc::clone(&snapshot) as Arc<dyn Snapshot>,
        tables,
        ranges,
        snapshot_name,
        position: position.to_string(),
        seen,
        taken: jiff::Timestamp::now(),
    };
    Ok(Opened {
        side,
        rows,
        drawn,
        from: Some(from),
        position: Some(position),
        postgres: Some(snapshot),
        holder: Some(holder),
        pace: None,
    })
}

/// Opens a DynamoDB side: scans in fixed segments, with consistent reads.
pub(super) async fn dynamo(
    server: dynamo::Server,
    name: &'static str,
    wanted: Vec<Wanted>,
    read_capacity: Option<u32>,
) -> Result<Opened, Error> {
    dynamo_portion(server, name, wanted, read_capacity, &Portion::Whole).await
}

/// As [`dynamo`], or a sample of it.
pub(super) async fn dynamo_portion(
    server: dynamo::Server,
    name: &'static str,
    wanted: Vec<Wanted>,
    read_capacity: Option<u32>,
    portion: &Portion<'_>,
) -> Result<Opened, Error> {
    let (mut tables, mut rows, mut tasks, mut ranges) = (Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
    let mut sizes: Vec<u64> = Vec::new();
    for (index, wanted) in wanted.into_iter().enumerate() {
        let found = match wanted.need {
            Need::Given => None,
            Need::Required | Need::Optional => describe(&server, &wanted.relation.table).await?,
        };
        let Some(found) = found else {
            if wanted.need == Need::Required {
                return Err(Error::NoTable { side: name, table: wanted.relation.table.to_string() });
            }
            rows.push(0);
            sizes.push(0);
            tables.push(wanted.unread());
            continue;
        };
        rows.push(found.items);
        let segments = match portion {
            Portion::Sample { share, tables } if tables.contains(&index) && found.bytes >= BYTES_MIN => {
                // Cut to the type's ends.
                (DRAWN_SEGMENTS / share) as u64
            }
            _ => found.bytes / SEGMENT_BYTES,
        };
        let total = u32::try_from(segments.clamp(SEGMENTS_MIN, SEGMENTS_MAX)).unwrap_or(u32::MAX);
        sizes.push(found.bytes);
        for number in 0..total {
            let id = RangeId(u32::try_from(ranges.len()).unwrap_or(u32::MAX));
            let table = wanted.relation.table.clone();
            let segment = Segment { table, number, total, next: Next::Start, rows: 0, bytes: 0 };
            tasks.insert(id, SegmentTask { shape: found.shape.clone(), segment });
            ranges.push(Range { id, table: index, extent: Extent::Segment { number, total }, pages: 1 });
        }
        tables.push(Table { identity: found.id, ..wanted.unread() });
    }
    let drawn = draw(&mut ranges, portion, |index| sizes[index] >= BYTES_MIN);
    let pace = Arc::new(Pace::new(read_capacity));
    let unmarked = |_| String::new();
    let snapshot = Arc::new(DynamoScan::new(server, Epoch(0), tasks, unmarked, Arc::clone(&pace)));
    let side = Side {
        name,
        snapshot,
        tables,
        ranges,
        snapshot_name: "scan".into(),
        position: String::new(),
        seen: None,
        taken: jiff::Timestamp::now(),
    };
    Ok(Opened { side, rows, drawn, from: None, position: None, postgres: None, holder: None, pace: Some(pace) })
}

/// Bytes of a range of a Postgres side.
fn range_bytes(portion: &Portion<'_>, leaves: &[LeafNow]) -> u64 {
    let Portion::Sample { share, .. } = portion else { return RANGE_BYTES };
    let all: u64 = leaves.iter().map(|leaf| leaf.bytes).sum();
    // Cut to the type's ends.
    let wanted = (all as f64 * share / DRAWN_RANGES) as u64;
    wanted.max(all / RANGES_MAX).clamp(BLOCK_BYTES, RANGE_BYTES)
}

/// Draws ranges of the tables that are sampled and large enough; answers with how many there were of each.
fn draw(ranges: &mut Vec<Range>, portion: &Portion<'_>, large: impl Fn(usize) -> bool) -> BTreeMap<usize, u64> {
    let mut drawn = BTreeMap::new();
    let Portion::Sample { share, tables } = portion else { return drawn };
    // The same sample of the same data each time.
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(0);
    for table in tables.iter().copied().filter(|table| large(*table)) {
        let places: Vec<usize> = (0..ranges.len()).filter(|place| ranges[*place].table == table).collect();
        // Cut to the type's ends; one range says nothing of how ranges differ.
        let chosen = ((places.len() as f64 * share).ceil() as usize).max(2).min(places.len());
        let kept: BTreeSet<RangeId> = rand::seq::index::sample(&mut random, places.len(), chosen)
            .into_iter()
            .map(|at| ranges[places[at]].id)
            .collect();
        ranges.retain(|range| range.table != table || kept.contains(&range.id));
        drawn.insert(table, places.len() as u64);
    }
    drawn
}

/// Where a Postgres server stands now.
pub(super) async fn position(server: &Server) -> Result<Lsn, Error> {
    Ok(live::position(&mut server.connect().await?).await?)
}

/// Whether a Postgres server has a table.
pub(super) async fn has_table(server: &Server, table: &RelationName) -> Result<bool, Error> {
    Ok(catalog::table(&mut server.connect().await?, table).await?.is_some())
}
