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

/// The table that a stream's ARN names, with its account and region.
fn table_of(arn: &str) -> &str {
    arn.split_once("/stream/").map_or(arn, |(table, _)| table)
}

/// A table that stands in another account or region than the one of that name that the log was begun with.
pub fn elsewhere<'a>(remembered: &Remembered, streams: &'a BTreeMap<Box<str>, String>) -> Option<&'a str> {
    streams.iter().find_map(|(table, arn)| {
        let before = remembered.streams.get(table)?;
        (table_of(before) != table_of(arn)).then_some(&**table)
    })
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
    fn a_table_of_that_name_elsewhere_is_another_and_one_that_was_made_anew_is_not() {
        let arn = |place: &str, stream: &str| format!("arn:aws:dynamodb:{place}:table/a/stream/{stream}");
        let before = Remembered { streams: streams(&[("a", &arn("eu:1", "1"))]), ..remembered() };
        let found = |place, stream| elsewhere(&before, &streams(&[("a", &arn(place, stream))])).map(str::to_owned);
        assert_eq!(found("eu:1", "2"), None);
        assert_eq!(found("eu:2", "1").as_deref(), Some("a"), "another account");
        assert_eq!(found("us:1", "1").as_deref(), Some("a"), "another region");
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
