//! What to do at a start, given what the log remembers and which streams the tables have now: pure (I4).

use std::collections::BTreeMap;

use crate::event::Epoch;

/// What the log remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remembered {
    /// The epoch; `None` in a new log.
    pub epoch: Option<Epoch>,
    /// The stream of each table of the epoch.
    pub streams: BTreeMap<Box<str>, String>,
    /// Why continuity was found to be lost.
    pub lost: Option<String>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on in this epoch.
    Resume {
        /// The epoch.
        epoch: Epoch,
        /// Tables of the epoch that are not captured any more: should one come back, it needs a new epoch.
        dropped: Vec<Box<str>>,
    },
    /// Open an epoch, with a scan of its own.
    Open {
        /// The new epoch.
        epoch: Epoch,
        /// Why; `None` for the first.
        reason: Option<String>,
    },
}

/// Decides. A stream's ARN is that of one stream for ever: another one began at an unknown time after the first ended.
pub fn decide(remembered: &Remembered, streams: &BTreeMap<Box<str>, String>) -> Decision {
    let Some(epoch) = remembered.epoch else { return Decision::Open { epoch: Epoch(1), reason: None } };
    let next = |reason: String| Decision::Open { epoch: Epoch(epoch.0 + 1), reason: Some(reason) };
    if let Some(reason) = &remembered.lost {
        return next(reason.clone());
    }
    for (table, arn) in streams {
        match remembered.streams.get(table) {
            None => return next(format!("table {table} was not captured before")),
            Some(before) if before != arn => return next(format!("table {table} has another stream")),
            Some(_) => {}
        }
    }
    let dropped = remembered.streams.keys().filter(|table| !streams.contains_key(*table)).cloned().collect();
    Decision::Resume { epoch, dropped }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(named: &[(&str, &str)]) -> BTreeMap<Box<str>, String> {
        named.iter().map(|(table, arn)| (Box::from(*table), (*arn).to_owned())).collect()
    }

    fn remembered() -> Remembered {
        Remembered { epoch: Some(Epoch(3)), streams: streams(&[("a", "1"), ("b", "2")]), lost: None }
    }

    #[test]
    fn a_new_log_opens_the_first_epoch() {
        let decision = decide(&Remembered::default(), &streams(&[("a", "1")]));
        assert_eq!(decision, Decision::Open { epoch: Epoch(1), reason: None });
    }

    #[test]
    fn the_same_streams_go_on_and_a_table_may_be_taken_out() {
        let resume = |dropped: &[&str]| Decision::Resume {
            epoch: Epoch(3),
            dropped: dropped.iter().map(|table| Box::from(*table)).collect(),
        };
        assert_eq!(decide(&remembered(), &streams(&[("a", "1"), ("b", "2")])), resume(&[]));
        assert_eq!(decide(&remembered(), &streams(&[("a", "1")])), resume(&["b"]));
    }

    #[test]
    fn every_loss_of_continuity_opens_the_next_epoch() {
        let opens = |decision| matches!(decision, Decision::Open { epoch: Epoch(4), reason: Some(_) });
        assert!(opens(decide(&remembered(), &streams(&[("a", "9"), ("b", "2")]))), "another stream");
        assert!(opens(decide(&remembered(), &streams(&[("c", "3")]))), "another table");
        let lost = Remembered { lost: Some("a shard was trimmed".into()), ..remembered() };
        assert!(opens(decide(&lost, &streams(&[("a", "1"), ("b", "2")]))), "lost before");
    }
}
