//! Writes what the [`Generator`] makes: the initial rows by COPY, then transactions at a steady rate while others read.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::generator::{Generator, Transaction};
use super::raw::End;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Rows of the initial load.
    pub rows: u64,
    /// Live transactions that were committed.
    pub committed: u64,
    /// Live transactions that were rolled back on purpose.
    pub rolled_back: u64,
    /// Items that live changes put or deleted; each is one record of a stream. Rows are not counted.
    pub changes: u64,
}

/// How a live writer works.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Units that the store was loaded with.
    pub units: u64,
    /// Number of the first transaction; a writer that goes on where another stopped begins there.
    pub first_step: u64,
    /// Transactions after which the writer stops by itself; `u64::MAX` for never.
    pub steps_max: u64,
    /// Transactions a second.
    pub per_second: u32,
}

/// Opens a connection with a server's own settings, as an application would.
pub async fn connect(url: &str) -> Result<PgConnection, Error> {
    PgConnection::connect(url).await.map_err(|error| Error::server("connect", &error))
}

/// Runs the statements of a script, such as the legacy schema's definition.
pub async fn run_script(connection: &mut PgConnection, script: &str) -> Result<(), Error> {
    execute(connection, script, "run the demo's definitions").await
}

/// Loads the first `units` units.
pub async fn load(connection: &mut PgConnection, generator: &Generator, units: u64) -> Result<Written, Error> {
    const ACTION: &str = "load the demo's rows";
    open_session(connection, generator).await?;
    let mut written = Written::default();
    for batch in generator.initial(units) {
        for rows in batch? {
            let refused = |error| Error::server(ACTION, &error);
            let mut copy = connection.copy_in_raw(&rows.copy_statement()).await.map_err(refused)?;
            copy.send(rows.copy_text().into_bytes()).await.map_err(refused)?;
            written.rows += copy.finish().await.map_err(refused)?;
        }
    }
    Ok(written)
}

/// Executes live transactions until told to stop, or until there are no more; stops between two of them.
pub async fn write_live(
    connection: &mut PgConnection,
    generator: &Generator,
    pace: Pace,
    stop: &CancellationToken,
) -> Result<Written, Error> {
    open_session(connection, generator).await?;
    let mut ticks = ticks(pace);
    let mut written = Written::default();
    for step in pace.first_step..pace.first_step.saturating_add(pace.steps_max) {
        tokio::select! {
            // Both branches are cancel-safe: neither has done anything before it is ready.
            biased;
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let Some(transaction) = generator.live(step, pace.units)? else { break };
        execute_transaction(connection, &transaction).await?;
        match transaction.end {
            End::Commit => written.committed += 1,
            End::Rollback => written.rolled_back += 1,
        }
    }
    Ok(written)
}

/// When transactions begin.
pub(super) fn ticks(pace: Pace) -> Interval {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / pace.per_second.max(1));
    // After a stall the writer goes on at its pace rather than in a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Executes one live transaction.
pub async fn execute_transaction(connection: &mut PgConnection, transaction: &Transaction) -> Result<(), Error> {
    const ACTION: &str = "write the demo's changes";
    execute(connection, "BEGIN", ACTION).await?;
    for statement in &transaction.statements {
        execute(connection, statement, ACTION).await?;
    }
    let end = match transaction.end {
        End::Commit => "COMMIT",
        End::Rollback => "ROLLBACK",
    };
    execute(connection, end, ACTION).await
}

async fn open_session(connection: &mut PgConnection, generator: &Generator) -> Result<(), Error> {
    for statement in generator.session() {
        execute(connection, &statement, "open the demo's session").await?;
    }
    Ok(())
}

async fn execute(connection: &mut PgConnection, sql: &str, action: &'static str) -> Result<(), Error> {
    // The text is the demo's own file with quoted literals filled in.
    let statement = sqlx::raw_sql(AssertSqlSafe(sql));
    statement.execute(connection).await.map(drop).map_err(|error| Error::server(action, &error))
}
