//! Connections to Postgres, every one with the same session settings.
//!
//! A value's text depends on the session: date style, time zone, float digits, bytea form (P9). `ALTER DATABASE … SET`
//! changes them behind our back, so each connection, also the replication one, pins what it depends on at start-up.

use std::str::FromStr;
use std::time::Duration;

use pgwire_replication::{ReplicationConfig, SslMode, TlsConfig};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, PgConnection};

use super::error;
use crate::event::Lsn;
use crate::source::Error;
use crate::target;

/// What every session of ours is started with, and why.
const PINNED: [(&str, &str); 15] = [
    // How values are written.
    ("datestyle", "ISO"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("client_encoding", "UTF8"),
    // Names in values (regclass, regtype) are then always qualified.
    ("search_path", "pg_catalog"),
    // A filtered read would be a silent loss: the server refuses instead.
    ("row_security", "off"),
    // A copy or a held snapshot may last for hours.
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    // Waiting longer than this behind a migration of the application's would queue its own readers behind us.
    ("lock_timeout", "10000"),
    // A publication and a slot are written although the database may be read-only by default.
    ("default_transaction_read_only", "off"),
    // Commits of ours must be in the stream before we count on them.
    ("synchronous_commit", "on"),
    // Our statements are short. One that reads a table without an index counts as dear by the settings below, and to compile it
    // took a third of a second for a table of two rows.
    ("jit", "off"),
];

/// How sessions plan that ask for rows by key. A table that is being filled has no statistics, so the planner takes it for
/// small and reads all of it for each batch, or keeps such a plan: measured, 2,300 rows a second fell to that. A plan that
/// is kept from when the table was small reads all of an index as gladly: so none is kept, which costs a fraction of a
/// millisecond for each statement.
const BY_KEY: [(&str, &str); 4] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("plan_cache_mode", "force_custom_plan"),
];

/// Messages that the replication driver may hold ahead of us. The bound on memory is this times the size of a row:
/// 64 MiB at rows of 256 KiB; rows beyond that are rare enough that fewer messages would only cost speed.
const MESSAGES_AHEAD_MAX: usize = 256;

/// How often the server is told how far we are; its own limit is a minute (`wal_sender_timeout`).
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Where a server is and how to get in. It has no `Debug`: it holds a password.
#[derive(Clone)]
pub struct Server {
    options: PgConnectOptions,
    replication: ReplicationConfig,
}

impl Server {
    /// Reads `postgres://user:password@host:port/database?sslmode=…`, with what it leaves out from the usual variables.
    ///
    /// `postgres://user@/database?host=/run/postgresql` goes through the Unix socket in that folder.
    ///
    /// # Errors
    /// [`Error::Address`] when the text is not such an address.
    pub fn parse(url: &str) -> Result<Self, Error> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(Error::Address { reason: "it does not begin with postgres://".into() });
        }
        let options = PgConnectOptions::from_str(&with_host(url)).map_err(error::sql("read the address"))?;
        let options =
            options.extra_float_digits(None).application_name("rehome").options(PINNED).disable_statement_logging();
        let replication = replication_config(&options)?;
        Ok(Self { options, replication })
    }

    /// Opens a session for SQL.
    ///
    /// # Errors
    /// [`Error::Unreachable`] or [`Error::Refused`].
    pub async fn connect(&self) -> Result<PgConnection, Error> {
        self.options.connect().await.map_err(|error| match error::sql("connect")(error) {
            Error::Unreachable { action, reason } => {
                Error::Unreachable { action, reason: format!("{}: {reason}", self.place()) }
            }
            other => other,
        })
    }

    /// A pool of sessions that ask for rows by key; connections are made as they are needed.
    pub fn pool(&self, connections_max: u32) -> PgPool {
        let options = self.options.clone().options(BY_KEY);
        PgPoolOptions::new().max_connections(connections_max).connect_lazy_with(options)
    }

    /// As [`Server::pool`], for a target that one session has been opened with: a pool by itself tries for half a minute to
    /// reach a server that is not there, and then says no more than that its time was up.
    ///
    /// # Errors
    /// [`target::Error`] that names the server.
    pub async fn reached_pool(&self, connections_max: u32) -> Result<PgPool, target::Error> {
        match self.connect().await {
            Ok(session) => drop(session),
            Err(Error::Unreachable { action, reason }) => {
                return Err(target::Error::Unreachable { action, source: reason.into() });
            }
            Err(Error::Refused { action, code, message }) => {
                return Err(target::Error::Refused { action, code, message });
            }
            Err(other) => {
                return Err(target::Error::Unreachable { action: "connect", source: other.to_string().into() });
            }
        }
        Ok(self.pool(connections_max))
    }

    /// Where the server is, for people: without user and password.
    fn place(&self) -> String {
        match self.options.get_socket() {
            Some(folder) => format!("{} (port {})", folder.display(), self.options.get_port()),
            None => format!("{}:{}", self.options.get_host(), self.options.get_port()),
        }
    }

    /// What a replication session is opened with.
    pub(super) fn replication(&self, slot: &str, publication: &str, start: Lsn) -> ReplicationConfig {
        let mut config = self.replication.clone().with_start_lsn(pgwire_replication::Lsn(start.0));
        config.slot = slot.to_owned();
        config.publication = publication.into();
        config
    }

    /// Whether the server is reached through a Unix socket.
    pub(super) fn local(&self) -> bool {
        self.options.get_socket().is_some()
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        self.options.get_database().unwrap_or_else(|| self.options.get_username())
    }
}

/// Puts a host where a URL has none behind its user, as the server's own tools allow when the folder of a socket follows.
fn with_host(url: &str) -> std::borrow::Cow<'_, str> {
    let authority = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url[authority..].find(['/', '?']).map_or(url.len(), |length| authority + length);
    if !url[authority..end].ends_with('@') {
        return url.into();
    }
    format!("{}localhost{}", &url[..end], &url[end..]).into()
}

/// Says the same to the replication driver as to the SQL driver.
fn replication_config(options: &PgConnectOptions) -> Result<ReplicationConfig, Error> {
    let url = options.to_url_lossy();
    let password = percent_encoding::percent_decode_str(url.password().unwrap_or_default())
        .decode_utf8()
        .map_err(|_| Error::Address { reason: "the password is not UTF-8".into() })?;
    let host = match options.get_socket() {
        Some(folder) => folder.to_string_lossy().into_owned(),
        None => options.get_host().to_owned(),
    };
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    let file = |name: &str| {
        url.query_pairs().find(|(key, _)| key == name).map(|(_, path)| std::path::PathBuf::from(path.into_owned()))
    };
    let mode = match options.get_ssl_mode() {
        PgSslMode::Disable | PgSslMode::Allow => SslMode::Disable,
        // The SQL driver talks TLS through no Unix socket either.
        _ if options.get_socket().is_some() => SslMode::Disable,
        PgSslMode::Prefer => SslMode::Prefer,
        PgSslMode::Require => SslMode::Require,
        PgSslMode::VerifyCa => SslMode::VerifyCa,
        PgSslMode::VerifyFull => SslMode::VerifyFull,
    };
    let tls = TlsConfig {
        mode,
        ca_pem_path: file("sslrootcert"),
        sni_hostname: None,
        client_cert_pem_path: file("sslcert"),
        client_key_pem_path: file("sslkey"),
    };
    let pinned: Vec<String> = PINNED.iter().map(|(name, value)| format!("-c {name}={value}")).collect();
    Ok(ReplicationConfig::new(host, options.get_username(), password.as_ref(), database, "", "")
        .with_port(options.get_port())
        .with_tls(tls)
        .with_status_interval(STATUS_INTERVAL)
        .with_wakeup_interval(STATUS_INTERVAL)
        .with_buffer_size(MESSAGES_AHEAD_MAX)
        .with_application_name("rehome")
        .with_options(pinned.join(" ")))
}

/// Quotes an identifier.
pub(crate) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// Quotes a qualified name.
pub(super) fn quote_name(name: &crate::event::RelationName) -> String {
    format!("{}.{}", quote(&name.schema), quote(&name.table))
}

/// Quotes a string literal.
pub(super) fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_leaves_no_way_out() {
        assert_eq!(quote("a\"; drop table b; --"), "\"a\"\"; drop table b; --\"");
        assert_eq!(quote_literal("o'clock"), "'o''clock'");
    }

    #[test]
    fn both_drivers_get_the_same_address() {
        let server = Server::parse("postgres://me:p%40ss@example.org:6000/data?sslmode=disable").expect("an address");
        let config = server.replication("slot", "publication", Lsn(7));
        assert_eq!((config.host.as_str(), config.port, config.password.as_str()), ("example.org", 6000, "p@ss"));
        assert_eq!((config.user.as_str(), config.database.as_str()), ("me", "data"));
        assert!(config.options.is_some_and(|options| options.contains("-c timezone=UTC")));
    }

    #[test]
    fn a_folder_as_host_is_a_unix_socket_to_both_drivers() {
        let server = Server::parse("postgres://me@/data?host=/run/postgresql&port=6000&sslmode=require");
        let server = server.expect("an address");
        assert!(server.local());
        let config = server.replication("slot", "publication", Lsn(7));
        assert_eq!(config.unix_socket_path(), std::path::Path::new("/run/postgresql/.s.PGSQL.6000"));
        assert!(matches!(config.tls.mode, SslMode::Disable), "no TLS through a socket, which would be refused");
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        assert!(matches!(Server::parse("not an address"), Err(Error::Address { .. })));
    }
}
