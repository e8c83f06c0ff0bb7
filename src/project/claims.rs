//! Two parts that want one target key: both are parked, whichever came first (pure but for the state it reads).
//!
//! Here a *unit* is a part of one, by its key in the state. It claims every key that its mapping yields, whether its rows were written or not; so when the second claimant is
//! seen the first is evaluated again, finds the other's claim, and takes its row back. When one of them lets go, the others
//! are evaluated again and find themselves alone.
//!
//! A claim that its part is about to give up stands in nobody's way: who finds only such claims waits, and is called back.

use std::collections::BTreeSet;

use crate::event::Canonical;
use crate::event::Key;
use crate::target::TargetKey;

use super::Error;
use super::records::PartState;
use super::result::Status;
use super::scope;
use super::session::Session;
use super::state::Space;

/// Names a target key in the state: 16 bytes of its blake3 digest.
pub type ClaimId = [u8; 16];

/// The claim on a target key.
pub fn claim_id(table: &str, key: &TargetKey) -> ClaimId {
    let mut hasher = blake3::Hasher::new_derive_key("rehome claim v1");
    hasher.update(&(table.len() as u64).to_be_bytes());
    hasher.update(table.as_bytes());
    hasher.update(&Key(key.values.clone()).encode());
    let mut id = ClaimId::default();
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    id
}

/// The claims of a part, as last kept.
pub fn of(session: &Session<'_>, unit: &[u8]) -> Result<BTreeSet<ClaimId>, Error> {
    let bytes = session.get(Space::Claimed, unit)?.unwrap_or_default();
    let (ids, rest) = bytes.as_chunks();
    if rest.is_empty() { Ok(ids.iter().copied().collect()) } else { Err(Error::Damaged("claims")) }
}

/// Keeps the claims of a part.
pub fn keep(session: &mut Session<'_>, unit: &[u8], claims: &BTreeSet<ClaimId>) {
    if claims.is_empty() {
        session.remove(Space::Claimed, unit);
    } else {
        session.put(Space::Claimed, unit, claims.iter().flatten().copied().collect::<Vec<_>>());
    }
}

/// Gives up claims of a unit; answers which other units are rid of their last rival by that.
pub fn release(session: &mut Session<'_>, unit: &[u8], claims: &BTreeSet<ClaimId>) -> Result<BTreeSet<Vec<u8>>, Error> {
    let mut freed = BTreeSet::new();
    for id in claims {
        let mut units = claimants(session, id)?;
        units.remove(unit);
        // A single rival left is rid of its contest; more than one remain parked because of each other.
        if units.len() == 1 {
            freed.extend(units.iter().cloned());
        }
        store(session, id, &units);
    }
    Ok(freed)
}

/// Who else wants what a unit claims.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Contest {
    /// Claims of this unit that others have too.
    pub contested: BTreeSet<ClaimId>,
    /// The others, by their keys.
    pub rivals: BTreeSet<Vec<u8>>,
    /// Those of them that learn of this unit only now, and are to be evaluated again.
    pub new: BTreeSet<Vec<u8>>,
}

/// Claims keys for a unit, some of which it may have claimed before.
pub fn take(session: &mut Session<'_>, unit: &[u8], claims: &BTreeSet<ClaimId>) -> Result<Contest, Error> {
    let mut contest = Contest::default();
    for id in claims {
        let mut units = claimants(session, id)?;
        let added = units.insert(unit.to_vec());
        let rivals = units.iter().filter(|rival| rival.as_slice() != unit);
        if units.len() > 1 {
            contest.contested.insert(*id);
            contest.rivals.extend(rivals.clone().cloned());
        }
        if added {
            contest.new.extend(rivals.cloned());
            store(session, id, &units);
        }
    }
    Ok(contest)
}

/// Whether all of some parts are marked and stand behind `last`: they are evaluated later in the same pass.
pub fn to_come(session: &Session<'_>, parts: &BTreeSet<Vec<u8>>, last: &[u8]) -> Result<bool, Error> {
    for part in parts {
        if part.as_slice() <= last || session.get(Space::Dirty, part)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Those of some parts that wait, as far as what became of them is kept.
pub fn waiting(session: &Session<'_>, parts: BTreeSet<Vec<u8>>) -> Result<BTreeSet<Vec<u8>>, Error> {
    let mut waiting = BTreeSet::new();
    for part in parts {
        let kept = session.get(Space::Parts, &part)?.map(|bytes| PartState::from_bytes(&bytes)).transpose()?;
        let result = kept.map(|part| part.result()).transpose()?.flatten();
        if result.is_some_and(|result| result.status == Status::Waiting) {
            waiting.insert(part);
        }
    }
    Ok(waiting)
}

fn claimants(session: &Session<'_>, id: &ClaimId) -> Result<BTreeSet<Vec<u8>>, Error> {
    let mut units = BTreeSet::new();
    let Some(bytes) = session.get(Space::Claims, id)? else { return Ok(units) };
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let (unit, tail) = scope::first(rest).ok_or(Error::Damaged("claims"))?;
        units.insert(unit.to_vec());
        rest = tail;
    }
    Ok(units)
}

fn store(session: &mut Session<'_>, id: &ClaimId, units: &BTreeSet<Vec<u8>>) {
    if units.is_empty() {
        session.remove(Space::Claims, id);
    } else {
        session.put(Space::Claims, id, units.iter().flatten().copied().collect::<Vec<_>>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Part;
    use crate::project::scope::scope_key;
    use crate::project::state::State;

    fn unit_key(unit: &str) -> Vec<u8> {
        scope_key(unit, &Part::Whole)
    }

    fn names(others: &BTreeSet<Vec<u8>>) -> Vec<&str> {
        others.iter().map(|key| scope::unit_text(key).expect("a part")).collect()
    }

    #[test]
    fn the_second_claimant_is_parked_and_calls_the_first_back_in_either_order() {
        for (first, second) in [("a", "b"), ("b", "a")] {
            let folder = tempfile::tempdir().expect("a folder");
            let state = State::open(folder.path()).expect("a store");
            let mut session = state.session();
            let (none, key) = (BTreeSet::new(), BTreeSet::from([[7; 16]]));
            let alone = take(&mut session, &unit_key(first), &key).expect("state");
            assert_eq!(alone, Contest::default());
            let rival = take(&mut session, &unit_key(second), &key).expect("state");
            assert_eq!((rival.contested, names(&rival.rivals)), (key.clone(), vec![first]));
            assert_eq!(names(&rival.new), [first]);
            let called_back = take(&mut session, &unit_key(first), &key).expect("state");
            assert_eq!(
                (called_back.contested, called_back.new),
                (key.clone(), none),
                "no endless calling back and forth"
            );
            let freed = release(&mut session, &unit_key(second), &key).expect("state");
            assert_eq!(names(&freed), [first]);
            let free = take(&mut session, &unit_key(first), &key).expect("state");
            assert_eq!(free, Contest::default());
        }
    }
}
