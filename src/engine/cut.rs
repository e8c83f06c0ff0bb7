//! What a comparison speaks of: where projection and stores stood while both sides were read (I8).
//!
//! The order of questions is the proof. The projector is asked first where it stands; then the target's snapshot is taken,
//! then the source's; then the log must have reached, by position, what the source's snapshot saw, and the projector must
//! have applied that. A log that nothing is appended to is not taken for one that has everything. Of rows that rehome did not
//! write no log tells: because the source is read as of the later moment, what an application wrote to both stores, to the
//! source first, is found in both.

use std::time::Duration;

use crate::event::Lsn;

use super::Error;
use super::protocol::{Answer, Request, Stand};
use super::witness::Projection;

/// Between two looks at where the log stands.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// What is known of where both sides stood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cut {
    /// Where the projector stood before either side was read; absent where there is none.
    pub before: Option<Stand>,
    /// Where it stood when it had applied all that was read of the source; absent when it never did.
    pub after: Option<Stand>,
    /// Position of the source, which everything that was read of it was written before.
    pub source: Option<Lsn>,
    /// As `source`, of the target.
    pub target: Option<Lsn>,
    /// Where nobody projects: whether both sides are known to have held still while they were read.
    pub quiet: bool,
    /// Whether the target was read as of one moment, and all of the source as of that one or later.
    pub ordered: bool,
}

impl Cut {
    /// Whether anything may have been on its way while both sides were read.
    pub fn moving(&self) -> bool {
        let still = |(before, after): (&Stand, &Stand)| {
            let nothing_waits = before.waiting.as_ref().is_some_and(Vec::is_empty);
            before.applied == after.end && nothing_waits && before.again == after.again
        };
        !self.quiet && !self.before.as_ref().zip(self.after.as_ref()).is_some_and(still)
    }
}

/// Where the projector stands, to be asked before either side is read.
///
/// While it still looks for the parts that changed answers concern, it does not know which of them wait: that is waited for
/// until the time is over, and then nothing counts as having waited for nothing.
///
/// # Errors
/// When it cannot be asked.
pub async fn before(projection: &dyn Projection, patience: Duration) -> Result<Stand, Error> {
    let deadline = projection.elapsed() + patience;
    loop {
        let stand = stand(projection).await?;
        // Without a process that projects, waiting changes nothing.
        if !stand.waking || stand.captured.is_none() || projection.elapsed() >= deadline {
            let waiting = stand.waiting.filter(|_| !stand.waking);
            return Ok(Stand { waiting, ..stand });
        }
        projection.pause(PAUSE).await;
    }
}

/// Waits until the log holds what the source had written up to a position, and the projector has applied it and knows whom it
/// concerns; `None` when that did not happen in time.
///
/// # Errors
/// When the projector cannot be asked.
pub async fn covered(projection: &dyn Projection, position: Lsn, patience: Duration) -> Result<Option<Stand>, Error> {
    let deadline = projection.elapsed() + patience;
    let mut wanted: Option<u64> = None;
    loop {
        let stand = stand(projection).await?;
        // Nothing is being captured, and waiting will not change that.
        let Some(captured) = &stand.captured else { return Ok(None) };
        if captured.parse::<Lsn>().is_ok_and(|captured| captured >= position) {
            let end = *wanted.get_or_insert(stand.end);
            if stand.applied >= end && !stand.waking {
                return Ok(Some(stand));
            }
        }
        if projection.elapsed() >= deadline {
            return Ok(None);
        }
        projection.pause(PAUSE).await;
    }
}

async fn stand(projection: &dyn Projection) -> Result<Stand, Error> {
    match projection.ask(Request::Stand).await? {
        Answer::Stand(stand) => Ok(stand),
        other => Err(unexpected(other)),
    }
}

/// An answer to another question, or a failure told by the running process.
pub(super) fn unexpected(answer: Answer) -> Error {
    match answer {
        Answer::Failed { message, .. } => Error::Remote(message),
        _ => Error::Remote("the running process answered another question".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stand(applied: u64, end: u64, waiting: Option<Vec<String>>) -> Option<Stand> {
        Some(Stand {
            applied,
            end,
            generation: 1,
            mapping: 1,
            captured: None,
            waiting,
            held_back: Some(Vec::new()),
            again: 0,
            waking: false,
        })
    }

    #[test]
    fn nothing_moved_only_where_nothing_came_and_nothing_waited() {
        let moving = |before, after| Cut { before, after, ..Cut::default() }.moving();
        assert!(!moving(stand(7, 7, Some(vec![])), stand(7, 7, Some(vec![]))));
        assert!(moving(stand(7, 7, Some(vec![])), stand(7, 8, Some(vec![]))), "a record came");
        assert!(moving(stand(7, 7, Some(vec!["00".into()])), stand(7, 7, Some(vec![]))), "a part waited");
        assert!(moving(stand(7, 7, None), stand(7, 7, Some(vec![]))), "nobody knows whether a part waited");
        let tried = stand(7, 7, Some(vec![])).map(|stand| Stand { again: 1, ..stand });
        assert!(moving(stand(7, 7, Some(vec![])), tried), "rows were written with no record that says so");
        assert!(moving(stand(7, 7, Some(vec![])), None), "the log never had all that was read");
        assert!(moving(None, None));
        assert!(!Cut { quiet: true, ..Cut::default() }.moving());
    }
}
