//! What to do at a start, given what the log remembers and what the server says: pure (I4).

use crate::event::{Epoch, Lsn};

/// What the log remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remembered {
    /// The epoch; `None` in a new log.
    pub epoch: Option<Epoch>,
    /// Its slot.
    pub slot: Option<String>,
    /// Up to where the log holds everything.
    pub confirmed: Option<Lsn>,
    /// The server of the epoch, in the form of its mark.
    pub server: Option<String>,
    /// The tables of the epoch.
    pub tables: Vec<String>,
    /// Why continuity was found to be lost.
    pub lost: Option<String>,
}

/// What the server says of the remembered slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotNow {
    /// Everything before was acknowledged.
    pub confirmed: Option<Lsn>,
    /// Whether the server removed WAL that it needs.
    pub lost: bool,
    /// End of the server's WAL.
    pub wal_end: Lsn,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on in this epoch.
    Resume {
        /// The epoch.
        epoch: Epoch,
        /// Its slot.
        slot: String,
        /// Where to go on.
        from: Lsn,
    },
    /// Open an epoch, with a slot and a snapshot of its own.
    Open {
        /// The new epoch.
        epoch: Epoch,
        /// Why; `None` for the first.
        reason: Option<String>,
    },
}

/// Decides.
///
/// The two positions are never mixed: the log ahead of the slot is what a crash between append and acknowledgement leaves;
/// the slot ahead of the log means that something was acknowledged which the log does not have, and is a gap.
pub fn decide(remembered: &Remembered, server: &str, tables: &[String], slot: Option<&SlotNow>) -> Decision {
    let Some(epoch) = remembered.epoch else { return Decision::Open { epoch: Epoch(1), reason: None } };
    let next = |reason: String| Decision::Open { epoch: Epoch(epoch.0 + 1), reason: Some(reason) };
    if let Some(reason) = &remembered.lost {
        return next(reason.clone());
    }
    let (Some(name), Some(from)) = (&remembered.slot, remembered.confirmed) else {
        return next("the log remembers no slot or no position".into());
    };
    if remembered.server.as_deref() != Some(server) {
        return next("the server is another one, or was restored or promoted".into());
    }
    if let Some(added) = tables.iter().find(|table| !remembered.tables.contains(table)) {
        return next(format!("table {added} was not captured before"));
    }
    let Some(slot) = slot else { return next(format!("replication slot {name} is gone")) };
    if slot.lost {
        return next(format!("the server removed WAL that replication slot {name} needs"));
    }
    if from > slot.wal_end {
        let end = slot.wal_end;
        return next(format!("the server lost the end of its WAL: that ends at {end}, and the log at {from}"));
    }
    match slot.confirmed {
        Some(confirmed) if confirmed > from => {
            next(format!("replication slot {name} was moved to {confirmed}, and the log ends at {from}"))
        }
        _ => Decision::Resume { epoch, slot: name.clone(), from },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered() -> Remembered {
        Remembered {
            epoch: Some(Epoch(3)),
            slot: Some("s".into()),
            confirmed: Some(Lsn(100)),
            server: Some("7\n1".into()),
            tables: vec!["a".into(), "b".into()],
            lost: None,
        }
    }

    fn slot(confirmed: u64) -> SlotNow {
        SlotNow { confirmed: Some(Lsn(confirmed)), lost: false, wal_end: Lsn(100) }
    }

    fn after(remembered: &Remembered, slot: Option<&SlotNow>) -> Decision {
        decide(remembered, "7\n1", &["a".into()], slot)
    }

    #[test]
    fn a_new_log_opens_the_first_epoch() {
        assert_eq!(after(&Remembered::default(), None), Decision::Open { epoch: Epoch(1), reason: None });
    }

    #[test]
    fn the_log_at_or_ahead_of_the_slot_resumes_at_its_own_position() {
        for confirmed in [1, 99, 100] {
            let expected = Decision::Resume { epoch: Epoch(3), slot: "s".into(), from: Lsn(100) };
            assert_eq!(after(&remembered(), Some(&slot(confirmed))), expected);
        }
    }

    #[test]
    fn every_loss_of_continuity_opens_the_next_epoch() {
        let opens = |decision| matches!(decision, Decision::Open { epoch: Epoch(4), reason: Some(_) });
        assert!(opens(after(&remembered(), Some(&slot(101)))), "a gap");
        assert!(opens(after(&remembered(), None)), "no slot");
        assert!(opens(after(&remembered(), Some(&SlotNow { lost: true, ..slot(1) }))), "a lost slot");
        assert!(opens(after(&remembered(), Some(&SlotNow { wal_end: Lsn(99), ..slot(1) }))), "a lost tail of the WAL");
        assert!(opens(decide(&remembered(), "8\n1", &[], Some(&slot(1)))), "another server");
        assert!(opens(decide(&remembered(), "7\n2", &[], Some(&slot(1)))), "another timeline");
        assert!(opens(decide(&remembered(), "7\n1", &["c".into()], Some(&slot(1)))), "another table");
        let abandoned = Remembered { lost: Some("abandoned".into()), ..remembered() };
        assert!(opens(after(&abandoned, Some(&slot(1)))), "given up");
    }
}
