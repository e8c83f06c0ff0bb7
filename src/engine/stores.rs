//! The two stores of a migration, whichever kind each is: what is asked of both kinds in the same place.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::capture::{self, CaptureStatus};
use crate::dynamo::preflight::{Absence, TableExpectation};
use crate::dynamo::table::{KeyAttribute, KeyKind};
use crate::dynamo::target::{self as dynamo_target, Billing, DynamoTarget, IndexSpec, Placed, Projection, TableSpec};
use crate::dynamo::{self, Address};
use crate::event::RelationName;
use crate::log::EventLog;
use crate::mapping::schema::{self, DynamoKey, Kind, Presence, Store};
use crate::postgres::{Server, catalog};
use crate::project::owned;
use crate::project::row::{Marking, touch};
use crate::project::scope::unit_key;
use crate::project::source::SourceShape;
use crate::project::state::{Space, State};
use crate::target::{Target, TargetKey};

use super::{Engine, Error, shapes};

/// Pages of items that wait to be taken up.
const PAGES_AHEAD: usize = 4;

impl Engine {
    /// The source database, where it is Postgres.
    pub fn source(&self) -> Result<Server, Error> {
        Ok(Server::parse(self.address("source", Store::Postgres)?)?)
    }

    /// The target database, where it is Postgres.
    pub(super) fn target_server(&self) -> Result<Server, Error> {
        Server::parse(self.address("target", Store::Postgres)?).map_err(|error| Error::from(error).at_target())
    }

    /// Clients of the source, where it is DynamoDB.
    pub(super) async fn source_tables(&self) -> Result<dynamo::Server, Error> {
        let address: Address = self.address("source", Store::DynamoDb)?.parse()?;
        Ok(dynamo::Server::new(&address).await?)
    }

    /// Clients of the target, where it is DynamoDB.
    pub(super) async fn target_tables(&self) -> Result<dynamo::Server, Error> {
        let at_target = |error: crate::source::Error| Error::from(error).at_target();
        let address: Address = self.address("target", Store::DynamoDb)?.parse().map_err(at_target)?;
        dynamo::Server::new(&address).await.map_err(at_target)
    }

    /// Refuses addresses of other kinds of store than the migration is for, before anything is asked of either.
    pub(super) fn check_addresses(&self) -> Result<(), Error> {
        self.address("source", self.migration.source_store())?;
        self.address("target", self.migration.target_store())?;
        Ok(())
    }

    /// The address of a side, which must be one of the kind that the migration says.
    fn address(&self, side: &'static str, store: Store) -> Result<&str, Error> {
        let url = if side == "source" { &self.settings.source } else { &self.settings.target };
        let url = url.as_deref().ok_or(Error::NoAddress { side })?;
        if Address::meant(url) != (store == Store::DynamoDb) {
            let wanted = if store == Store::DynamoDb { "dynamodb://REGION" } else { "postgres://…" };
            return Err(Error::OtherStore { side, wanted });
        }
        Ok(url)
    }

    /// The source tables that are captured, each with what it means that the source lacks it; a table that a file stands
    /// for is not.
    pub(super) fn captured(&self) -> impl Iterator<Item = (&SourceShape, Absence)> {
        let tables = self.sources.iter().zip(self.migration.source_tables()).enumerate();
        tables.filter(|(place, _)| !self.by_file(*place)).map(|(_, (source, table))| match table.presence {
            Presence::Required => (source, Absence::Error),
            Presence::Optional => (source, Absence::Skipped),
        })
    }

    /// Tables of the live source, where the migration's own are, that the migration does not mention.
    pub async fn unmentioned(&self) -> Result<Vec<String>, Error> {
        let found = match self.migration.source_store() {
            Store::Postgres => {
                let mut schemas: Vec<String> =
                    self.sources.iter().map(|table| table.relation.schema.to_string()).collect();
                schemas.sort();
                schemas.dedup();
                let mut connection = self.source()?.connect().await?;
                catalog::tables_of(&mut connection, &schemas).await?
            }
            Store::DynamoDb => {
                let tables = dynamo::table::list(&self.source_tables().await?).await?;
                tables.into_iter().map(|table| RelationName { schema: "".into(), table }).collect()
            }
        };
        let mentioned = |name: &RelationName| self.sources.iter().any(|source| source.relation == *name);
        Ok(found.iter().filter(|name| !mentioned(name)).map(ToString::to_string).collect())
    }

    /// The DynamoDB tables that are captured.
    pub(super) fn captured_tables(&self) -> Vec<TableExpectation> {
        let table = |(source, absence): (&SourceShape, Absence)| TableExpectation {
            name: source.relation.table.clone(),
            absence,
        };
        self.captured().map(table).collect()
    }

    /// The DynamoDB tables that are written.
    pub(super) fn written_tables(&self) -> Arc<[TableSpec]> {
        let key = |key: &[DynamoKey]| {
            let attribute = |key: &DynamoKey| KeyAttribute {
                name: key.name.clone(),
                kind: match key.kind {
                    Kind::Decimal => KeyKind::N,
                    Kind::Bytes => KeyKind::B,
                    _ => KeyKind::S,
                },
            };
            key.iter().map(attribute).collect()
        };
        let index = |index: &schema::DynamoIndex| IndexSpec {
            name: index.name.clone(),
            key: key(&index.key),
            projection: match &index.projection {
                schema::Projection::All => Projection::All,
                schema::Projection::KeysOnly => Projection::KeysOnly,
                schema::Projection::Include(names) => Projection::Include(names.clone()),
            },
        };
        let table = |table: &schema::DynamoTable| TableSpec {
            name: table.name.clone(),
            key: key(&table.key),
            indexes: table.indexes.iter().map(index).collect(),
            billing: Billing::OnDemand,
            stream: None,
        };
        self.migration.dynamo_tables().iter().map(table).collect()
    }

    /// Captures the source into the log until `stop` is cancelled.
    pub(super) async fn capture(
        &self,
        log: Arc<dyn EventLog>,
        status: watch::Sender<CaptureStatus>,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        if self.migration.source_store() == Store::DynamoDb {
            let address = self.address("source", Store::DynamoDb)?.parse()?;
            let config = capture::dynamo::Config {
                workers: self.settings.copy_workers,
                read_capacity: self.settings.read_capacity,
                accept_source: self.settings.accept_source,
                ..capture::dynamo::Config::new(address, self.captured_tables())
            };
            return Ok(capture::dynamo::run(config, log, status, stop).await?);
        }
        let url = self.address("source", Store::Postgres)?;
        let config = capture::Config {
            workers: self.settings.copy_workers,
            abandon_slot_at: self.settings.abandon_slot_at,
            files: self.files()?,
            prefix: self.prefix(),
            ..capture::Config::new(url, shapes::expectations(self.captured()))
        };
        Ok(capture::run(config, log, status, stop).await?)
    }

    /// The target, where it is DynamoDB.
    pub(super) async fn dynamo_target(&self) -> Result<DynamoTarget, Error> {
        let server = self.target_tables().await?;
        let specs = self.written_tables();
        dynamo_target::verify(&server, &specs).await?;
        let settings = dynamo_target::Settings {
            foreign_scope: shapes::foreign_scope(&self.migration),
            concurrency: self.settings.target_connections as usize,
            write_units_max: self.settings.write_capacity,
            sharing: self.settings.sharing,
        };
        Ok(DynamoTarget::open(&server, self.migration.name(), specs, settings).await?)
    }

    /// What tells the target's tables from others of their names.
    pub(super) async fn target_identities(&self) -> Result<Vec<(Box<str>, String)>, Error> {
        let server = self.target_tables().await?;
        Ok(dynamo_target::identities(&server, &self.written_tables()).await?)
    }

    /// The target, where it is DynamoDB, for one who only reads: nothing is looked at before.
    pub(super) async fn dynamo_reader(&self) -> Result<DynamoTarget, Error> {
        let server = self.target_tables().await?;
        let settings = dynamo_target::Settings {
            foreign_scope: shapes::foreign_scope(&self.migration),
            concurrency: 1,
            write_units_max: None,
            sharing: dynamo_target::Sharing::Shared,
        };
        Ok(DynamoTarget::open(&server, self.migration.name(), self.written_tables(), settings).await?)
    }
}

/// Takes up what the target's items say of who wrote them, when the state knows nothing of what was written: it is new, or
/// another folder's was lost.
///
/// A part that the log tells of no more is evaluated too, as one without rows, and so its items go.
pub(super) async fn take_up_items(state: &State, target: &DynamoTarget, engine: &Engine) -> Result<u64, Error> {
    let (out, mut pages) = mpsc::channel::<Vec<Placed>>(PAGES_AHEAD);
    let take = async {
        while let Some(page) = pages.recv().await {
            let mut session = state.session();
            for Placed { unit, part, key, .. } in page {
                let scope = [unit_key(&unit), part.into_vec()].concat();
                let mut keys: Vec<TargetKey> = match session.get(Space::Owned, &scope)? {
                    Some(bytes) => owned::unpack(&bytes, &engine.tables)?,
                    None => Vec::new(),
                };
                // A start that was cut off has taken it up already.
                if !keys.contains(&key) {
                    keys.push(key);
                }
                session.put(Space::Owned, &scope, owned::pack(keys.iter(), &engine.tables));
                touch(&mut session, &scope, crate::log::Offset(0), Marking::All, |_| {})?;
            }
            session.commit()?;
        }
        Ok::<(), crate::project::Error>(())
    };
    let (told, taken) = tokio::join!(target.inventory(out), take);
    taken?;
    Ok(told?)
}

/// A DynamoDB target behind its seam.
pub(super) fn behind(target: DynamoTarget) -> Arc<dyn Target> {
    Arc::new(target)
}
