//! One private Postgres server for the test binary, and a database in it for each test.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rehome::demo::cluster::{Cluster, Options};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// The server lives as long as the process: it holds the other end of a pipe of ours.
static CLUSTER: OnceLock<Cluster> = OnceLock::new();
/// Numbers the databases.
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A database of a test's own.
pub struct Database {
    /// Its URL.
    pub url: String,
    /// A session in it, with the server's own settings.
    pub connection: PgConnection,
    /// Its name.
    pub name: String,
}

/// The server.
pub fn cluster() -> &'static Cluster {
    CLUSTER.get_or_init(|| {
        let settings = [
            ("max_replication_slots", "300"),
            ("max_wal_senders", "60"),
            ("max_connections", "200"),
            // In its data folder.
            ("unix_socket_directories", "."),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let options = Options { settings: settings.into(), ..Options::temporary() };
        Cluster::start(&options).expect("Postgres is installed where tests run")
    })
}

/// The URL of a database of the server through its Unix socket.
pub fn on_socket(url: &str) -> String {
    let folder = cluster().folder().join("data");
    format!("{}?host={}", url.replace("@127.0.0.1:", "@localhost:"), folder.display())
}

impl Database {
    /// Makes a database.
    pub async fn new() -> Self {
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let mut main = PgConnection::connect(&cluster().url("postgres")).await.expect("the server takes connections");
        sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut main).await.expect("it may");
        let url = cluster().url(&name);
        let connection = PgConnection::connect(&url).await.expect("the database takes connections");
        Self { url, connection, name }
    }

    /// Runs statements.
    pub async fn run(&mut self, sql: impl Into<String>) {
        run(&mut self.connection, sql).await;
    }

    /// Another session.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("the database takes connections")
    }

    /// One text.
    pub async fn text(&mut self, sql: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut self.connection)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Rows of texts, one for each row: the columns joined.
    pub async fn texts(&mut self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut self.connection)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

/// Runs statements on a session.
pub async fn run(connection: &mut PgConnection, sql: impl Into<String>) {
    let sql = sql.into();
    sqlx::raw_sql(AssertSqlSafe(sql.clone()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}
