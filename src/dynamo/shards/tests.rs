use proptest::prelude::*;

use super::*;

const HOUR_US: i64 = 60 * MINUTE_US;

/// Shards written `child<parent`.
fn description(hour: i64, shards: &[&str]) -> Description {
    let listed = |text: &&str| match text.split_once('<') {
        Some((id, parent)) => Listed { id: id.into(), parent: Some(parent.into()) },
        None => Listed { id: (*text).into(), parent: None },
    };
    Description { asked: Timestamp(hour * HOUR_US), shards: shards.iter().map(listed).collect(), enabled: true }
}

fn opened(tracker: &mut Tracker, hour: i64) -> Vec<String> {
    tracker.open(Timestamp(hour * HOUR_US)).expect("nothing is late").iter().map(ToString::to_string).collect()
}

/// A tracker after its first description.
fn tracking(shards: &[&str]) -> Tracker {
    let mut tracker = Tracker::default();
    tracker.describe(&description(0, shards)).expect("nothing is lost");
    tracker
}

#[test]
fn parents_come_before_children() {
    let mut tracker = tracking(&["c<b", "b<a", "a", "d<a"]);
    assert_eq!(opened(&mut tracker, 0), ["a"]);
    assert_eq!(opened(&mut tracker, 0), [""; 0], "none is opened twice");
    assert!(tracker.following());
    tracker.read("a", "7", None);
    assert_eq!(opened(&mut tracker, 0), [""; 0], "a parent that has been read is not a drained one");
    tracker.drained("a", Timestamp(0));
    assert!(!tracker.following(), "its children are nobody's yet");
    assert_eq!(opened(&mut tracker, 0), ["b", "d"]);
    tracker.drained("b", Timestamp(0));
    assert_eq!(opened(&mut tracker, 0), ["c"]);
}

#[test]
fn a_child_that_is_listed_before_its_parent_waits_for_it() {
    let mut tracker = tracking(&["b<a"]);
    assert_eq!(opened(&mut tracker, 0), [""; 0]);
    assert!(!tracker.following());
    tracker.describe(&description(0, &["b<a", "a"])).expect("nothing is lost");
    assert_eq!(opened(&mut tracker, 0), ["a"]);
}

#[test]
fn a_child_whose_parent_was_trimmed_is_read_after_a_few_descriptions() {
    let mut tracker = tracking(&["b<a"]);
    for _ in 1..ORPHAN_DESCRIPTIONS {
        assert_eq!(opened(&mut tracker, 0), [""; 0]);
        tracker.describe(&description(0, &["b<a"])).expect("nothing is lost");
    }
    assert_eq!(opened(&mut tracker, 0), ["b"]);
}

#[test]
fn a_shard_missing_from_one_description_is_not_lost_and_from_several_it_is() {
    let mut tracker = tracking(&["a"]);
    opened(&mut tracker, 0);
    tracker.describe(&description(0, &[])).expect("descriptions contradict each other");
    tracker.describe(&description(0, &["a"])).expect("it is back");
    for _ in 1..MISSING_DESCRIPTIONS {
        tracker.describe(&description(0, &[])).expect("not yet");
    }
    assert_eq!(tracker.describe(&description(0, &[])), Err(Loss::Gone("a".into())));
}

#[test]
fn drained_shards_are_forgotten_when_they_are_trimmed_and_their_children_are_known() {
    let mut tracker = tracking(&["a"]);
    opened(&mut tracker, 0);
    tracker.drained("a", Timestamp(0));
    assert_eq!(tracker.describe(&description(4, &[])).expect("drained").forgotten, Vec::<ShardId>::new());
    assert_eq!(tracker.describe(&description(4, &["a", "b<a"])).expect("fine").forgotten, Vec::<ShardId>::new());
    assert_eq!(opened(&mut tracker, 4), ["b"]);
    tracker.read("b", "9", None);
    for _ in 1..MISSING_DESCRIPTIONS {
        let changes = tracker.describe(&description(28, &["b<a"])).expect("fine");
        assert_eq!(changes.forgotten, Vec::<ShardId>::new(), "it may yet be listed again");
    }
    let changes = tracker.describe(&description(28, &["b<a"])).expect("fine");
    assert_eq!(changes.forgotten, [ShardId::from("a")]);
    tracker.stopped("b");
    assert_eq!(opened(&mut tracker, 40), ["b"], "it goes on by itself, with a place that the service checks");
}

#[test]
fn records_trimmed_unseen_are_a_loss_and_not_a_gap() {
    // Away for thirty hours: what the stream lists now was made at any time since.
    let known = BTreeMap::from([(
        ShardId::from("a"),
        Shard { parent: None, progress: Progress::Drained, needed_from: Timestamp(0), told: None, follows: None },
    )]);
    let mut tracker = Tracker::new(known.clone(), Some(Timestamp(0)));
    tracker.describe(&description(30, &["b<a"])).expect("it is listed");
    assert_eq!(tracker.open(Timestamp(30 * HOUR_US)), Err(Loss::Late("b".into())));
    // Away for twenty: the service still holds everything.
    let mut tracker = Tracker::new(known, Some(Timestamp(0)));
    tracker.describe(&description(20, &["a", "b<a"])).expect("it is listed");
    assert_eq!(opened(&mut tracker, 20), ["b"]);
}

#[test]
fn a_new_epochs_first_description_needs_nothing_that_was_before() {
    let mut tracker = Tracker::default();
    tracker.describe(&description(100, &["a"])).expect("it is listed");
    assert_eq!(opened(&mut tracker, 100), ["a"]);
    assert_eq!(tracker.shard("a").expect("known").needed_from, Timestamp(100 * HOUR_US));
}

/// What was written before the epoch, behind a record that the log has, would else stand as that record left it.
#[test]
fn history_is_needed_behind_what_the_log_has_of_it() {
    // When the newest record of the parent was written, when the last shard is opened again, and whether that is too late.
    for (told, again, late) in [
        (Some(1), 24, false),
        (Some(1), 26, true),
        (Some(3), 26, false),
        (None, 26, false),
        // Kept for longer than it had to be: what goes on from it is, too.
        (Some(-9), 24, false),
        (Some(-9), 25, true),
    ] {
        let mut tracker = Tracker::default();
        tracker.describe(&description(24, &["a", "b<a", "c<b"])).expect("nothing is lost");
        opened(&mut tracker, 24);
        if let Some(told) = told {
            tracker.read("a", "7", Some(Timestamp(told * HOUR_US)));
        }
        let now = Timestamp(24 * HOUR_US);
        tracker.drained("a", now);
        // The one in between has nothing to tell.
        assert_eq!(opened(&mut tracker, 24), ["b"]);
        let follow = tracker.drained("b", now);
        assert_eq!(follow, if told.is_some() { vec![ShardId::from("c")] } else { Vec::new() });
        let marks = ["a", "b", "c"].map(|id| tracker.shard(id).expect("known").to_bytes());
        let shards = marks.iter().map(|mark| Shard::from_bytes(mark).expect("a mark"));
        let shards = ["a", "b", "c"].map(ShardId::from).into_iter().zip(shards).collect();
        let mut other = Tracker::new(shards, Some(now));
        other.describe(&description(again, &["b<a", "c<b"])).expect("nothing is gone");
        let expected = if late { Err(Loss::Late("c".into())) } else { Ok(vec![ShardId::from("c")]) };
        assert_eq!(other.open(Timestamp(again * HOUR_US)), expected, "{told:?} {again}");
    }
}

/// An idle stream's records are old, and its shards come one after the other all the same.
#[test]
fn a_shard_that_was_found_later_needs_nothing_from_before_it() {
    let mut tracker = tracking(&["a"]);
    opened(&mut tracker, 0);
    tracker.read("a", "7", Some(Timestamp(0)));
    tracker.describe(&description(29, &["a"])).expect("nothing is lost");
    tracker.describe(&description(30, &["a", "b<a"])).expect("nothing is lost");
    assert_eq!(tracker.drained("a", Timestamp(30 * HOUR_US)), Vec::<ShardId>::new());
    tracker.describe(&description(31, &["b<a"])).expect("nothing is lost");
    tracker.stopped("b");
    assert_eq!(opened(&mut tracker, 31), ["b"]);
}

#[test]
fn a_disabled_stream_ends_when_it_is_drained() {
    let mut tracker = tracking(&["a"]);
    opened(&mut tracker, 0);
    let disabled = Description { enabled: false, ..description(1, &["a"]) };
    tracker.describe(&disabled).expect("there is something left to read");
    tracker.drained("a", Timestamp(0));
    assert_eq!(tracker.describe(&disabled), Err(Loss::Ended));
}

#[test]
fn a_lineage_whose_next_shard_is_not_listed_yet_is_not_followed() {
    let mut tracker = tracking(&["a", "other"]);
    opened(&mut tracker, 0);
    tracker.drained("a", Timestamp(0));
    assert!(!tracker.following(), "no description since");
    tracker.describe(&description(0, &["a", "other"])).expect("nothing is lost");
    assert!(!tracker.following(), "a description without it");
    tracker.describe(&description(0, &["a", "other", "b<a"])).expect("nothing is lost");
    assert_eq!(opened(&mut tracker, 0), ["b"]);
    assert!(tracker.following());
}

#[test]
fn a_lineage_that_ends_is_waited_for_as_long_as_a_shard_may_be_unlisted_and_no_longer() {
    let mut tracker = tracking(&["a", "other"]);
    opened(&mut tracker, 0);
    tracker.drained("a", Timestamp(0));
    tracker.describe(&description(1, &["a", "other"])).expect("nothing is lost");
    assert!(!tracker.following());
    tracker.describe(&description(2, &["a", "other"])).expect("nothing is lost");
    assert!(tracker.following(), "an hour later it would be listed");
    tracker.describe(&description(3, &["a", "other", "b<a"])).expect("nothing is lost");
    assert!(!tracker.following(), "and one that comes after all is read");
    assert_eq!(opened(&mut tracker, 3), ["b"]);
    assert!(tracker.following());
}

#[test]
fn a_page_that_comes_twice_does_not_move_a_shard_back() {
    let mut tracker = tracking(&["a"]);
    for last in ["9", "10", "9"] {
        tracker.read("a", last, None);
    }
    assert_eq!(tracker.shard("a").expect("known").progress, Progress::After("10".into()), "10 is after 9");
}

#[test]
fn a_shard_reads_as_it_was_written() {
    for progress in [Progress::Unread, Progress::After("000123".into()), Progress::Drained] {
        let shard = Shard {
            parent: Some("p".into()),
            progress,
            needed_from: Timestamp(5),
            told: Some(Timestamp(4)),
            follows: Some(Follows::Since(Timestamp(9))),
        };
        assert_eq!(Shard::from_bytes(&shard.to_bytes()), Some(shard));
    }
    assert_eq!(Shard::from_bytes(b"{}"), None);
}

proptest! {
    /// Whatever descriptions leave out now and then, every shard is read once, and after its parent.
    #[test]
    fn every_shard_is_read_once_and_after_its_parent(
        parents in proptest::collection::vec(any::<prop::sample::Index>(), 1..12),
        left_out in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
        drains in proptest::collection::vec(any::<prop::sample::Index>(), 200),
    ) {
        let name = |number: usize| ShardId::from(format!("s{number:02}"));
        // The first is a root; each other one's parent is among those before it.
        let shards: Vec<Listed> = std::iter::once(None)
            .chain(parents.iter().enumerate().map(|(index, parent)| Some(name(parent.index(index + 1)))))
            .enumerate()
            .map(|(number, parent)| Listed { id: name(number), parent })
            .collect();
        let mut tracker = Tracker::default();
        let (mut open, mut done): (Vec<ShardId>, Vec<ShardId>) = (vec![], vec![]);
        let mut left_out = left_out.into_iter();
        for drain in drains {
            // Every other description is whole, so that none is missing three times in a row.
            for gap in [left_out.next(), None] {
                let mut listed = shards.clone();
                if let Some(gap) = gap {
                    listed.remove(gap.index(listed.len()));
                }
                let description = Description { asked: Timestamp(0), shards: listed, enabled: true };
                prop_assert!(tracker.describe(&description).is_ok());
                for id in tracker.open(Timestamp(0)).expect("nothing is late") {
                    prop_assert!(!open.contains(&id) && !done.contains(&id), "{} is read twice", id);
                    let parent = shards.iter().find(|shard| shard.id == id).and_then(|shard| shard.parent.clone());
                    prop_assert!(parent.is_none_or(|parent| done.contains(&parent)), "{} before its parent", id);
                    open.push(id);
                }
            }
            if !open.is_empty() {
                let id = open.remove(drain.index(open.len()));
                tracker.drained(&id, Timestamp(0));
                done.push(id);
            }
        }
        prop_assert_eq!(done.len(), shards.len());
    }
}
