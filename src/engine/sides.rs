//! Both sides of a comparison, ready to be read: tables cut into ranges, under a snapshot where the store has them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::capture::plan::{LeafNow, plan};
use crate::dynamo::pace::Pace;
use crate::dynamo::scan::{DynamoScan, Next, Segment, SegmentTask};
use crate::dynamo::{self, table::describe};
use crate::event::{Epoch, Lsn, RelationName};
use crate::postgres::snapshot::{PgSnapshot, RangeTask};
use crate::postgres::{Connection, Server, catalog, live, provision};
use crate::reconcile::side::{Extent, Range, Side, Table};
use crate::source::RangeId;

use super::Error;

/// Bytes of a range of a Postgres table: small enough that several workers end together.
const RANGE_BYTES: u64 = 64 << 20;
/// Bytes of a segment of a DynamoDB table.
const SEGMENT_BYTES: u64 = 256 << 20;
/// Segments of a DynamoDB table, at the least.
const SEGMENTS_MIN: u64 = 4;

/// A side, with what keeps its snapshot alive, and about how many rows each of its tables has.
pub(super) struct Opened {
    pub side: Side,
    pub rows: Vec<u64>,
    /// Where a Postgres side stood before its snapshot was taken.
    pub from: Option<Lsn>,
    /// Where it stood when its snapshot was taken, or soon after.
    pub position: Option<Lsn>,
    /// The transaction that exported the snapshot.
    pub _holder: Option<Connection>,
    /// What a DynamoDB side reads by.
    pub pace: Option<Arc<Pace>>,
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
        Table { relation: self.relation, columns: self.columns, renamed: self.renamed, counted: None }
    }
}

/// Opens a Postgres side: one exported snapshot, every table counted under it.
pub(super) async fn postgres(server: &Server, name: &'static str, wanted: Vec<Wanted>) -> Result<Opened, Error> {
    let mut holder = server.connect().await?;
    let from = live::position(&mut holder).await?;
    let snapshot = provision::export_snapshot(&mut holder).await?;
    let position = live::position(&mut holder).await?;
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
        let counted = live::count(&mut holder, &wanted.relation).await?;
        rows.push(counted);
        for leaf in catalog::leaves(&mut catalogs, found.oid).await? {
            let catalog::Leaf { oid, name, filenode, blocks, bytes } = leaf;
            leaves.push(LeafNow { table: wanted.relation.clone(), name, oid, filenode, blocks, bytes });
        }
        tables.push(Table { counted: Some(counted), ..wanted.unread() });
    }
    let pass = plan(&BTreeMap::new(), &leaves, RANGE_BYTES);
    let mut tasks = HashMap::new();
    let mut ranges = Vec::new();
    for (id, range) in pass.add {
        let table = tables.iter().position(|table| table.relation == range.table).unwrap_or_default();
        let extent = Extent::Blocks { leaf: range.leaf.clone(), from: range.from, to: range.to };
        ranges.push(Range { id, table, extent });
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
    let snapshot_name = snapshot.clone();
    let snapshot = Arc::new(PgSnapshot::new(server.clone(), snapshot, Epoch(0), tasks));
    let side = Side { name, snapshot, tables, ranges, snapshot_name, position: position.to_string() };
    Ok(Opened { side, rows, from: Some(from), position: Some(position), _holder: Some(holder), pace: None })
}

/// Opens a DynamoDB side: scans in fixed segments, with consistent reads.
pub(super) async fn dynamo(
    server: dynamo::Server,
    name: &'static str,
    wanted: Vec<Wanted>,
    read_capacity: Option<u32>,
) -> Result<Opened, Error> {
    let (mut tables, mut rows, mut tasks, mut ranges) = (Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
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
            tables.push(wanted.unread());
            continue;
        };
        rows.push(found.items);
        let total = u32::try_from((found.bytes / SEGMENT_BYTES).max(SEGMENTS_MIN)).unwrap_or(u32::MAX);
        for number in 0..total {
            let id = RangeId(u32::try_from(ranges.len()).unwrap_or(u32::MAX));
            let table = wanted.relation.table.clone();
            let segment = Segment { table, number, total, next: Next::Start, rows: 0, bytes: 0 };
            tasks.insert(id, SegmentTask { shape: found.shape.clone(), segment });
            ranges.push(Range { id, table: index, extent: Extent::Segment { number, total } });
        }
        tables.push(wanted.unread());
    }
    let pace = Arc::new(Pace::new(read_capacity));
    let unmarked = |_| String::new();
    let snapshot = Arc::new(DynamoScan::new(server, Epoch(0), tasks, unmarked, Arc::clone(&pace)));
    let side = Side { name, snapshot, tables, ranges, snapshot_name: "scan".into(), position: String::new() };
    Ok(Opened { side, rows, from: None, position: None, _holder: None, pace: Some(pace) })
}

/// Where a Postgres server stands now.
pub(super) async fn position(server: &Server) -> Result<Lsn, Error> {
    Ok(live::position(&mut server.connect().await?).await?)
}

/// Whether a Postgres server has a table.
pub(super) async fn has_table(server: &Server, table: &RelationName) -> Result<bool, Error> {
    Ok(catalog::table(&mut server.connect().await?, table).await?.is_some())
}
