//! Where log, projection and single parts stand: what a comparison of everything asks of log and state.

use crate::event::{from_hex, to_hex};
use crate::log::Partition;
use crate::mapping::Part;
use crate::project::apply::Applier;
use crate::project::keep::count_of;
use crate::project::names;
use crate::project::pick::due;
use crate::project::records::PartState;
use crate::project::result::Status;
use crate::project::scope::Scope;
use crate::project::state::{Frozen, Space};

use super::Error;
use super::protocol::{Motion, PartStand, PartView, Stand};
use super::run::snapshot_complete;
use super::session::Session;

/// Parts that wait to be projected and are listed; more are only known to be many.
const WAITING_SHOWN: usize = 20_000;

impl Session {
    /// Where log and projection stand; the position that is captured was reached before anything else is looked at.
    pub(super) fn stand(&self) -> Result<Stand, Error> {
        let captured = self.captured()?;
        let end = self.log.end(Partition(0)).0;
        let (reached, waking) = (Applier::checkpoint(&self.state)?.0, self.waking()?);
        let frozen = self.state.freeze();
        let applied = Applier::checkpoint_at(&frozen)?.0;
        let mut waiting = None;
        if frozen.get(Space::Meta, names::MARKED)?.is_some() {
            waiting = listed(&frozen, Space::Dirty, &[])?;
        }
        let held_back = listed(&frozen, Space::Meta, names::AWAITING)?;
        let again = count_of(frozen.get(Space::Meta, names::AGAIN)?);
        // What was applied in between may have changed answers.
        let waking = waking || reached != applied;
        let (generation, mapping) = (self.log.generation(), self.mapping_generation);
        Ok(Stand { applied, end, generation, mapping, captured, waiting, held_back, again, waking })
    }

    /// The position up to which the log holds everything of the source; `None` where nothing is being captured.
    ///
    /// Nor while an epoch is copied and swept: its stream passes positions fast, but what changed before that began comes only
    /// with the copy, and what was deleted goes only with the sweep.
    pub(super) fn captured(&self) -> Result<Option<String>, Error> {
        let Some(capture) = self.live.as_ref().and_then(|live| live.capture.as_ref()) else { return Ok(None) };
        let captured = capture.borrow().durable.to_string();
        let whole = snapshot_complete(&*self.log)? && self.log.marks(names::SWEEP)?.is_empty();
        Ok(whole.then_some(captured))
    }

    /// Whether answers have changed that not everyone who asked was told of yet.
    pub(super) fn waking(&self) -> Result<bool, Error> {
        Ok(!self.state.empty(Space::Wake)?)
    }

    /// What became of parts since an offset.
    pub(super) fn since(&self, offset: u64, parts: &[String]) -> Result<Vec<PartStand>, Error> {
        let stand = |text: &String| -> Result<PartStand, Error> {
            let unknown = PartStand { motion: Motion::Unknown, parked: None };
            let Some(scope) = from_hex(text) else { return Ok(unknown) };
            let Some(bytes) = self.state.get(Space::Parts, &scope)? else { return Ok(unknown) };
            let part = PartState::from_bytes(&bytes)?;
            let status = part.result()?.map(|result| result.status);
            let mut stirred =
                part.last >= offset || due(&part, self.mapping_generation)? || matches!(status, Some(Status::Waiting));
            if let (false, Scope::Part { unit, part: Part::Whole }, 1..) =
                (stirred, Scope::of(&scope)?, self.migration.totals())
            {
                // The whole shows sums of all parts, and is written again with each of them under its old version.
                stirred = self.parts(unit)?.iter().any(|(_, part)| part.last >= offset);
            }
            let parked = match status {
                Some(Status::Parked { reason, .. }) => Some(reason),
                _ => None,
            };
            Ok(PartStand { motion: if stirred { Motion::Stirred } else { Motion::Still }, parked })
        };
        parts.iter().map(stand).collect()
    }

    /// Parts as of the log, evaluated now.
    pub(super) fn part_views(&self, parts: &[String]) -> Result<Vec<Option<PartView>>, Error> {
        let state_of = |scope: &[u8]| -> Result<Option<PartState>, Error> {
            Ok(self.state.get(Space::Parts, scope)?.map(|bytes| PartState::from_bytes(&bytes)).transpose()?)
        };
        let view = |text: &String| -> Result<Option<PartView>, Error> {
            let Some(scope) = from_hex(text) else { return Ok(None) };
            let Some(part) = state_of(&scope)? else { return Ok(None) };
            let rows = if part.incomplete == 0 { self.expected(&scope)? } else { Vec::new() };
            // Whom new answers concern is looked for before that is marked: asked in this order, one of both is seen.
            let moving = part.incomplete > 0
                || due(&part, self.mapping_generation)?
                || self.waking()?
                || self.summing(&scope)?
                || state_of(&scope)?.as_ref() != Some(&part);
            let parked = match part.result()?.map(|result| result.status) {
                Some(Status::Parked { reason, .. }) => Some(reason),
                _ => None,
            };
            Ok(Some(PartView { last: part.last, moving, parked, rows }))
        };
        parts.iter().map(view).collect()
    }

    /// Whether a part shows sums that its unit's other parts are about to change: these are written before they are kept.
    fn summing(&self, scope: &[u8]) -> Result<bool, Error> {
        let Scope::Part { unit, part: Part::Whole } = Scope::of(scope)? else { return Ok(false) };
        if self.migration.totals() == 0 {
            return Ok(false);
        }
        let due = |(_, part): &(Vec<u8>, PartState)| due(part, self.mapping_generation);
        self.parts(unit)?.iter().try_fold(false, |any, part| Ok(any || due(part)?))
    }
}

/// The keys of parts behind a prefix of a space, in hexadecimal; `None` when there are too many.
fn listed(frozen: &Frozen<'_>, space: Space, prefix: &[u8]) -> Result<Option<Vec<String>>, Error> {
    let mut listed = Some(Vec::new());
    frozen.each(space, |key, _| {
        let Some(scope) = key.strip_prefix(prefix) else { return Ok(()) };
        listed = listed.take().filter(|listed| listed.len() < WAITING_SHOWN);
        listed.iter_mut().for_each(|listed| listed.push(to_hex(scope)));
        Ok(())
    })?;
    Ok(listed)
}
