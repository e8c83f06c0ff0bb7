//! What writing an item would cost, and whether the service would take it: asked of nobody, told by the same rules as a write.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dynamo::size::{ITEM_BYTES_MAX, item_bytes};
use crate::event::Value;
use crate::target::{TargetRow, WriteVersion};

use super::item::Wanted;
use super::mark::{Mark, Owner};
use super::spec::{IndexSpec, Projection, TableSpec};

/// Bytes that one unit writes.
const UNIT_BYTES: usize = 1024;

/// What an item would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Bytes, with our mark.
    pub bytes: usize,
    /// Write units for the table and for each of its indexes that the item is in.
    pub write_units: u64,
    /// Whether it is above half of the largest size.
    pub large: bool,
}

/// Measures items of one migration.
#[derive(Debug, Clone)]
pub struct Meter {
    migration: Box<str>,
    specs: Arc<[TableSpec]>,
}

impl Meter {
    /// For the tables of a migration.
    pub fn new(migration: &str, specs: Arc<[TableSpec]>) -> Self {
        Self { migration: migration.into(), specs }
    }

    /// Measures a row of a part of a unit.
    ///
    /// # Errors
    /// The reason for which its part would be parked.
    pub fn measure(&self, unit: &str, part: &[u8], row: &TargetRow) -> Result<Size, &'static str> {
        let spec = &self.specs[usize::from(row.table.0)];
        // Versions have one width.
        let version = WriteVersion { log: 0, mapping: 0, partition: 0, offset: 0 };
        let mark = Mark { owner: Owner::new(&self.migration, unit, part), version };
        let bytes = Wanted::new(spec, row, &mark).map_err(|refusal| refusal.reason)?.bytes;
        let Some(Value::Map(item)) = row.values.last() else { return Ok(Size { bytes, write_units: 0, large: false }) };
        let indexes: u64 = spec.indexes.iter().map(|index| index_units(spec, index, item, bytes)).sum();
        Ok(Size { bytes, write_units: units(bytes) + indexes, large: bytes > ITEM_BYTES_MAX / 2 })
    }
}

/// Write units of an entry of an index; none for an item that is not in it.
fn index_units(spec: &TableSpec, index: &IndexSpec, item: &BTreeMap<Box<str>, Value>, bytes: usize) -> u64 {
    if index.key.iter().any(|key| !item.contains_key(&key.name)) {
        return 0;
    }
    let keys = |name: &str| spec.key.iter().chain(&index.key).any(|key| *key.name == *name);
    let held: BTreeMap<Box<str>, Value> = match &index.projection {
        Projection::All => return units(bytes),
        Projection::KeysOnly => {
            item.iter().filter(|(name, _)| keys(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
        }
        Projection::Include(more) => item
            .iter()
            .filter(|(name, _)| keys(name) || more.contains(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    };
    units(item_bytes(&held))
}

fn units(bytes: usize) -> u64 {
    bytes.div_ceil(UNIT_BYTES).max(1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::table::{KeyAttribute, KeyKind};
    use crate::dynamo::target::spec::Billing;
    use crate::target::TargetTable;

    fn meter(projections: Vec<Projection>) -> Meter {
        let key = |name: &str| vec![KeyAttribute { name: name.into(), kind: KeyKind::S }];
        let indexes =
            projections.into_iter().map(|projection| IndexSpec { name: "i".into(), key: key("g"), projection });
        let spec = TableSpec {
            name: "t".into(),
            key: key("p"),
            indexes: indexes.collect(),
            billing: Billing::OnDemand,
            stream: None,
        };
        Meter::new("m", [spec].into())
    }

    fn row(attributes: &[(&str, Value)]) -> TargetRow {
        let item = attributes.iter().map(|(name, value)| (Box::from(*name), value.clone())).collect();
        TargetRow { table: TargetTable(0), values: vec![Value::text("k"), Value::Map(item)] }
    }

    fn measured(projections: Vec<Projection>, attributes: &[(&str, Value)]) -> Result<(u64, bool), &'static str> {
        let size = meter(projections).measure("u", b"part", &row(attributes))?;
        Ok((size.write_units, size.large))
    }

    #[test]
    fn each_index_that_an_item_is_in_is_written_too() {
        let text = |length: usize| Value::text("x".repeat(length));
        let (key, owner) = (("p", Value::text("k")), ("g", Value::text("o")));
        let small = [key.clone(), ("t", text(100))];
        assert_eq!(measured(vec![Projection::All], &small), Ok((1, false)), "it is not in the index");
        let all = [key.clone(), owner.clone(), ("t", text(3_000)), ("u", text(1_500))];
        let include = Projection::Include(vec!["u".into()]);
        // Five for the table, five for all of it again, one for keys, two for keys and an attribute.
        assert_eq!(measured(vec![Projection::All, Projection::KeysOnly, include], &all), Ok((13, false)));
        assert_eq!(measured(Vec::new(), &[key.clone(), ("t", text(300_000))]), Ok((294, true)));
        assert_eq!(measured(Vec::new(), &[key, ("t", text(409_590))]), Err("item_too_large"));
    }
}
