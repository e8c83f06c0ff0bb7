//! The private servers of one demo, whichever kind each side is: what is asked of both kinds in the same place.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use crate::demo::Generator;
use crate::demo::cluster::{Cluster, Options};
use crate::demo::damage::{self, Damaged};
use crate::demo::tables::Tables;
use crate::demo::writer::{self, Pace, Written};
use crate::mapping::schema::Store;
use crate::postgres::Server;
use crate::target::TableShape;

use super::super::Failure;
use super::words;

/// Databases of the private Postgres.
const LEGACY: &str = "legacy";
const TARGET: &str = "target";

/// The servers, each started only when a side is of its kind.
pub struct Stores {
    cluster: Option<Cluster>,
    tables: Option<Tables>,
    source: Store,
    target: Store,
}

impl Stores {
    /// Starts what the two sides of a migration need.
    pub async fn start(source: Store, target: Store) -> Result<Self, Failure> {
        let needs = |store| source == store || target == store;
        let tables = if needs(Store::DynamoDb) { Some(Tables::start().await.map_err(words)?) } else { None };
        let cluster = if needs(Store::Postgres) {
            let started = tokio::task::spawn_blocking(|| Cluster::start(&Options::temporary()));
            let cluster = started.await.map_err(words)?.map_err(words)?;
            let mut admin = Server::parse(&cluster.url("postgres")).map_err(words)?.connect().await.map_err(words)?;
            for database in [LEGACY, TARGET] {
                writer::run_script(&mut admin, &format!("CREATE DATABASE {database}")).await.map_err(words)?;
            }
            Some(cluster)
        } else {
            None
        };
        Ok(Self { cluster, tables, source, target })
    }

    /// Address of the legacy store.
    pub fn source_url(&self) -> String {
        self.url(self.source, LEGACY)
    }

    /// Address of the target.
    pub fn target_url(&self) -> String {
        self.url(self.target, TARGET)
    }

    fn url(&self, store: Store, database: &str) -> String {
        match (store, &self.cluster, &self.tables) {
            (Store::Postgres, Some(cluster), _) => cluster.url(database),
            (Store::DynamoDb, _, Some(tables)) => tables.url(),
            _ => unreachable!("what a side needs was started"),
        }
    }

    /// Makes the legacy tables of a demo's folder, fills them with units, and makes what the application has at the target.
    pub async fn load(&self, folder: &Path, generator: &Generator, units: u64) -> Result<Written, Failure> {
        if self.target == Store::Postgres && folder.join("target.sql").exists() {
            let mut target = writer::connect(&self.target_url()).await.map_err(words)?;
            writer::run_script(&mut target, &read(&folder.join("target.sql"))?).await.map_err(words)?;
        }
        if self.source == Store::DynamoDb
            && let Some(tables) = &self.tables
        {
            let load = || tables.load(&folder.join("legacy.json"), generator, units);
            return tokio::task::block_in_place(load).map_err(words);
        }
        let mut legacy = writer::connect(&self.source_url()).await.map_err(words)?;
        writer::run_script(&mut legacy, &read(&folder.join("legacy.sql"))?).await.map_err(words)?;
        writer::load(&mut legacy, generator, units).await.map_err(words)
    }

    /// Changes the legacy rows, as the application goes on doing during a migration.
    pub async fn write_live(&self, generator: &Generator, pace: Pace) -> Result<Written, Failure> {
        let never = CancellationToken::new();
        if self.source == Store::DynamoDb
            && let Some(tables) = &self.tables
        {
            return tables.write_live(generator, pace, &never).await.map_err(words);
        }
        let mut connection = writer::connect(&self.source_url()).await.map_err(words)?;
        writer::write_live(&mut connection, generator, pace, &never).await.map_err(words)
    }

    /// Damages one row at the target behind rehome's back.
    pub async fn damage(&self, shapes: &[TableShape]) -> Result<Option<Damaged>, Failure> {
        if self.target == Store::DynamoDb
            && let Some(tables) = &self.tables
        {
            return tables.damage(shapes).map_err(words);
        }
        let mut connection = writer::connect(&self.target_url()).await.map_err(words)?;
        damage::damage(&mut connection, shapes).await.map_err(words)
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::from(format!("cannot read {}: {error}", path.display())))
}
