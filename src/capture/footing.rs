//! Looks whether what the epoch's stream rests on is still as it was, and remembers what may change without a loss (I4).

use super::epoch::Session;
use super::run::Context;
use super::{Error, marks};
use crate::postgres::Connection;
use crate::postgres::footing::{self, Footing};
use crate::source::Absence;

/// Why the epoch is over, if it is.
pub(super) async fn look(
    context: &Context,
    connection: &mut Connection,
    session: &Session,
) -> Result<Option<String>, Error> {
    let before = match context.log.mark(marks::FOOTING)? {
        Some(bytes) => {
            Some(Footing::from_bytes(&bytes).ok_or_else(|| Error::Mark { name: marks::FOOTING.to_owned() })?)
        }
        None => None,
    };
    let found = footing::read(connection, &session.publication, &session.tables, before.as_ref()).await?;
    let Some(before) = before else {
        // A log of an older build: from here on it is known.
        return remember(context, &found.footing).await.map(|()| None);
    };
    let tables = context.config.tables.iter().filter(|table| table.absence == Absence::Error);
    let required: Vec<String> = tables.map(|table| table.name.to_string()).collect();
    let lost = before.lost(&found, &required);
    if lost.is_none() && before != found.footing {
        if before.differs(&found.footing) {
            tracing::info!("what the stream rests on changed without a loss");
        }
        remember(context, &found.footing).await?;
    }
    Ok(lost)
}

/// Remembers what the epoch's stream rests on.
pub(super) async fn remember(context: &Context, footing: &Footing) -> Result<(), Error> {
    context.set([(marks::FOOTING.into(), Some(footing.to_bytes()))]).await
}
