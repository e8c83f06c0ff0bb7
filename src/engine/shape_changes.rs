//! Tables whose shape changed: what stands in the way, and what a person says to it.

use std::collections::BTreeMap;

use crate::capture::{self, marks};
use crate::event::{Relation, SchemaHash};
use crate::log::{Batch, Notice};
use crate::mapping::schema::Store;
use crate::project::held::first_shape;
use crate::project::names;
use crate::project::source::{Acceptable, Binding, bind};
use crate::project::state::Space;

use super::protocol::Answer;
use super::session::Session;
use super::{Error, shapes};

impl Session {
    /// Tables whose latest shape is not projected: what changed, and whether it can be accepted.
    pub(super) fn paused(&self) -> Result<BTreeMap<String, (String, Acceptable)>, Error> {
        let mut paused = BTreeMap::new();
        for (table, source) in (0..).zip(self.sources.iter()) {
            if let Some(difference) = self.difference(table)? {
                paused.insert(source.label.to_string(), difference);
            }
        }
        Ok(paused)
    }

    /// What of the shape that holds back a table's events is not accepted; `None` where nothing holds them back.
    pub(super) fn difference(&self, table: u16) -> Result<Option<(String, Acceptable)>, Error> {
        let look = |relation: &Relation| -> Result<Option<(String, Acceptable)>, crate::project::Error> {
            let accepted = self.log.mark(&names::accepted(&relation.name, relation.schema_hash()))?.is_some();
            Ok(match bind(&self.sources, relation, accepted) {
                Binding::Paused { difference, acceptable, .. } => Some((difference.into(), acceptable)),
                Binding::Table { .. } | Binding::Unmapped => None,
            })
        };
        let name = &self.sources[usize::from(table)].relation;
        let any = || {
            let mut relations = self.log.relations().into_iter().filter(|relation| relation.name == *name);
            relations.find_map(|relation| look(&relation).transpose()).transpose()
        };
        let of = |shape| self.log.relation(shape).map_or(Ok(None), |relation| look(&relation));
        Ok(first_shape(&self.state, table, any, of)?)
    }

    /// Takes the shape that holds back a table's events.
    pub(super) async fn accept_schema(&self, table: &str) -> Result<Answer, Error> {
        let (index, source) = shapes::named(&self.sources, table)?;
        let unchanged = || Error::NotAcceptable {
            table: table.to_owned(),
            reason: "its shape has not changed".to_owned(),
            next: "`rehome status` names the tables whose events are held back",
        };
        let (difference, acceptable) = self.difference(index)?.ok_or_else(unchanged)?;
        if acceptable == Acceptable::No {
            return Err(needed(table, &difference));
        }
        let mut batch = Batch::default();
        for relation in self.log.relations().iter().filter(|relation| relation.name == source.relation) {
            let name = names::accepted(&relation.name, relation.schema_hash());
            batch.marks.insert(name, Some(difference.clone().into_bytes()));
        }
        batch
            .notices
            .push(Notice { unit: "".into(), reason: format!("{}: {}", names::ACCEPT, source.relation).into() });
        self.log.append(batch).await?;
        Ok(Answer::Accepted { difference })
    }

    /// Gives up what is held back of a table, and has the next run read the source again in a new epoch.
    pub(super) async fn read_again(&self, table: &str) -> Result<Answer, Error> {
        let (_, source) = shapes::named(&self.sources, table)?;
        if self.live.is_some() {
            return Err(Error::NotAcceptable {
                table: table.to_owned(),
                reason: "a run is under way, and only the next one reads the source again".to_owned(),
                next: "stop it with `rehome stop`, and give this command again",
            });
        }
        let latest = self.log.mark(&format!("{}{}", marks::SHAPE, source.relation))?;
        let latest = latest.and_then(|hash| self.log.relation(SchemaHash(hash.try_into().ok()?)));
        let mut batch = Batch::default();
        let bound = |accepted| latest.as_ref().map(|latest| (latest, bind(&self.sources, latest, accepted)));
        let difference = match (bound(true), bound(false)) {
            (Some((_, Binding::Paused { difference, .. })), _) => {
                // A state that nothing was projected from waits for this; what the table is like now, the log may not know yet.
                if self.state.get(Space::Meta, names::WRITTEN)?.is_some() {
                    return Err(needed(table, &difference));
                }
                format!(
                    "{difference}; unless the live table is as legacy.toml says by now, its rows are held back once more"
                )
            }
            (_, Some((latest, Binding::Paused { difference, .. }))) => {
                let name = names::accepted(&latest.name, latest.schema_hash());
                batch.marks.insert(name, Some(difference.as_bytes().to_vec()));
                difference.into()
            }
            (Some(_), _) => "the shape is as the mapping says".to_owned(),
            // An item has no shape, and neither has a table that was never there.
            (None, _) => "the log knows no shape of it".to_owned(),
        };
        batch
            .notices
            .push(Notice { unit: "".into(), reason: format!("{}: {}", names::READ_AGAIN, source.relation).into() });
        // The new epoch's sweep makes up for one that waited for what is given up; by itself that would find every row old.
        batch.marks.insert(format!("{}{}", names::SWEEP_HELD, source.relation), None);
        let reason = format!("table {table} is read again, because a person asked for it");
        let lost = match self.migration.source_store() {
            Store::Postgres => marks::LOST,
            Store::DynamoDb => capture::dynamo::marks::LOST,
        };
        batch.marks.insert(lost.to_owned(), Some(reason.into_bytes()));
        self.log.append(batch).await?;
        Ok(Answer::Accepted { difference })
    }
}

/// A change cannot be accepted, since the mapping needs what is gone.
fn needed(table: &str, difference: &str) -> Error {
    Error::NotAcceptable {
        table: table.to_owned(),
        reason: format!("{difference}; the mapping needs what is gone"),
        next: "correct legacy.toml and mapping.toml and run `rehome check`; where the live table is as they say again, accept with \
               --read-again",
    }
}
