//! Parts that the target has rows of and the state knows nothing of: their rows would stay for ever.
//!
//! A state that is built anew, because it was lost or because the mapping places rows otherwise now, knows only the parts that
//! rows are in at the end of the log. What was written of others before stands at the target still, and is noted in the record
//! there. Each such part gets a notice in the log, and is then projected as one without rows: what it owns is deleted. A
//! notice has a newer offset than everything that was written, so that no earlier write supersedes this.

use crate::log::{Batch, EventLog, Notice};
use crate::target::Target;

use super::records::PartState;
use super::scope::unit_text;
use super::state::{Space, State};
use super::{Error, names};

/// Parts of the target's record that are looked at with one question.
const PARTS_AT_ONCE: usize = 10_000;

/// Whether what the target was written with is unknown to the state: nothing was written since it was begun.
pub fn unknown(state: &State) -> Result<bool, Error> {
    Ok(state.get(Space::Meta, names::WRITTEN)?.is_none())
}

/// Whether the target holds parts that were written before this state was begun.
pub async fn any(state: &State, target: &dyn Target) -> Result<bool, Error> {
    if target.keeps_record() {
        return Ok(!target.recorded(None, 1).await.map_err(Error::Target)?.is_empty());
    }
    Ok(!state.empty(Space::Owned)?)
}

/// Calls back parts that the target remembers and that have no rows; returns how many.
pub async fn call_back(state: &State, log: &dyn EventLog, target: &dyn Target) -> Result<u64, Error> {
    let mut called = 0;
    let mut after = None;
    loop {
        let parts = match target.keeps_record() {
            true => recorded(target, after.as_deref()).await?,
            false => taken_up(state, after.as_deref())?,
        };
        let Some(last) = parts.last().cloned() else { return Ok(called) };
        let mut notices = Vec::new();
        for scope in &parts {
            let part = state.get(Space::Parts, scope)?.map(|bytes| PartState::from_bytes(&bytes)).transpose()?;
            // One that was called back already waits to be projected.
            if part.is_none_or(|part| part.empty() && part.last == 0) {
                notices.push(notice(scope)?);
            }
        }
        called += notices.len() as u64;
        if !notices.is_empty() {
            log.append(Batch { notices, ..Batch::default() }).await?;
        }
        after = Some(last);
    }
}

/// Has a part evaluated again.
pub fn notice(scope: &[u8]) -> Result<Notice, Error> {
    let reason = format!("{}: {}", names::TAKE_BACK, names::call_back(scope));
    Ok(Notice { unit: unit_text(scope)?.into(), reason: reason.into() })
}

/// The next parts of the target's record behind one, in its order.
async fn recorded(target: &dyn Target, after: Option<&[u8]>) -> Result<Vec<Vec<u8>>, Error> {
    let after = after.map(|scope| Ok::<_, Error>((unit_text(scope)?.to_owned(), names::part_of(scope).to_vec())));
    let parts = target.recorded(after.transpose()?.as_ref(), PARTS_AT_ONCE).await.map_err(Error::Target)?;
    let scope =
        |(unit, part): &(String, Vec<u8>)| names::scope_of(unit, part).ok_or(Error::RecordDamaged("unit records"));
    parts.iter().map(scope).collect()
}

/// The next parts behind one that were taken up from the target's own marks.
fn taken_up(state: &State, after: Option<&[u8]>) -> Result<Vec<Vec<u8>>, Error> {
    let mut parts = Vec::new();
    state.scan_after(Space::Owned, after, |scope, _| {
        parts.push(scope.to_vec());
        Ok(parts.len() < PARTS_AT_ONCE)
    })?;
    Ok(parts)
}
