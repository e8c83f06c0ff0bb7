//! Preflight: what tables lack for capture, each with its place and its fix, before anything is read.

use aws_sdk_dynamodbstreams::types::ShardIteratorType;

use super::connect::Server;
use super::error::{Failure, Kind, failure, of_failure};
use super::shards::RETENTION_US;
use super::table::{Capacity, StreamFacts, Table, View, describe};
use crate::event::Timestamp;
pub use crate::source::Absence;
use crate::source::{Error, Fault, Finding, Severity};

/// Microseconds of an hour.
const HOUR_US: i64 = 60 * 60 * 1_000_000;
/// A capture that was away for longer than this has little time left.
const AWAY_WARN_US: i64 = 12 * HOUR_US;
/// A scan of a table with fewer read units a second than this is felt by its application, and takes long.
const READ_UNITS_FEW: u64 = 50;

/// A table to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableExpectation {
    /// Its name.
    pub name: Box<str>,
    /// What it means that there is no such table.
    pub absence: Absence,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Looked {
    /// The tables that exist, in the order asked for.
    pub tables: Vec<Table>,
    /// Names of those that do not, and may.
    pub skipped: Vec<Box<str>>,
    /// What is missing, and what a person should know; errors first.
    pub findings: Vec<Finding>,
}

/// Looks for everything that is missing for a capture of `tables`; all of it, not just the first.
///
/// `followed` says until when a table's stream was followed before, at `now`.
///
/// # Errors
/// When the service cannot be asked.
pub async fn preflight(
    server: &Server,
    tables: &[TableExpectation],
    followed: impl Fn(&str) -> Option<Timestamp>,
    now: Timestamp,
) -> Result<Looked, Error> {
    let mut looked = Looked::default();
    for expectation in tables {
        let place = format!("table {}", expectation.name);
        match describe(server, &expectation.name).await {
            Ok(Some(table)) => {
                looked.findings.extend(table_findings(&place, &table));
                looked.findings.extend(followed(&expectation.name).and_then(|then| away_finding(&place, then, now)));
                looked.findings.extend(refused_calls(server, &place, &table).await?);
                looked.tables.push(table);
            }
            Ok(None) => {
                looked.findings.push(absent(&place, expectation.absence));
                if expectation.absence == Absence::Skipped {
                    looked.skipped.push(expectation.name.clone());
                }
            }
            Err(error) if error.fault() == Fault::Transient => return Err(error),
            Err(error) => looked.findings.push(finding(
                Severity::Error,
                &place,
                error.to_string(),
                "let these credentials call dynamodb:DescribeTable on it, in this region and at this endpoint",
            )),
        }
    }
    if !tables.is_empty() && looked.skipped.len() == tables.len() {
        let fix = "correct the region or the endpoint, or the names in legacy.toml";
        looked.findings.push(finding(Severity::Error, "source", "it has none of the tables, optional as each is", fix));
    }
    looked.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(looked)
}

fn finding(severity: Severity, place: &str, what: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { what: what.into(), place: place.to_owned(), fix: fix.into(), severity }
}

/// What to say of a table that does not exist.
fn absent(place: &str, absence: Absence) -> Finding {
    let fix = "correct its name, the region or the endpoint";
    match absence {
        Absence::Error => finding(Severity::Error, place, "there is no such table", fix),
        Absence::Skipped => {
            let fix = "nothing, unless its name, the region or the endpoint is wrong";
            finding(Severity::Warning, place, "there is no such table: it is skipped, being optional", fix)
        }
    }
}

/// What is wrong with a table.
fn table_findings(place: &str, table: &Table) -> Vec<Finding> {
    const ENABLE: &str = "aws dynamodb update-table --table-name … --stream-specification \
                          StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES";
    const CHANGE: &str = "disable its stream, then enable it with StreamViewType=NEW_AND_OLD_IMAGES: a view cannot be \
                          changed, and a new stream means a new scan";
    let mut findings = Vec::new();
    let mut error = |what: String, fix: &str| findings.push(finding(Severity::Error, place, what, fix));
    match &table.stream {
        None => error("it has no stream: changes would not be seen".into(), ENABLE),
        Some(StreamFacts { view: Some(View::NewImage | View::Both), .. }) => {}
        Some(StreamFacts { view: Some(View::KeysOnly), .. }) => {
            error("its stream tells keys only (KEYS_ONLY), and not what an item became".into(), CHANGE);
        }
        Some(StreamFacts { view: Some(View::OldImage), .. }) => {
            error("its stream tells what an item was (OLD_IMAGE), and not what it became".into(), CHANGE);
        }
        Some(StreamFacts { view: None, .. }) => error("its stream has a view of an unknown kind".into(), CHANGE),
    }
    if let Capacity::Provisioned { read_units } = table.capacity
        && read_units < READ_UNITS_FEW
    {
        // A consistently read unit is four kilobytes.
        let seconds = table.bytes / 4096 / read_units.max(1);
        let what =
            format!("{read_units} read units a second are paid for: a scan takes all of them for {seconds} s or more");
        let fix = "raise its read capacity for the scan, or cap the scan's rate and give it time";
        findings.push(finding(Severity::Warning, place, what, fix));
    }
    findings
}

/// What to say of a stream that was not followed for a long time.
fn away_finding(place: &str, followed: Timestamp, now: Timestamp) -> Option<Finding> {
    let away = now.0.saturating_sub(followed.0);
    if away <= AWAY_WARN_US {
        return None;
    }
    let left = (RETENTION_US - away) / HOUR_US;
    let what = format!("its stream was last followed {} hours ago, and is kept for 24", away / HOUR_US);
    let fix = match left {
        1.. => format!("keep the capture running: in {left} hours changes begin to be lost"),
        _ => "changes may be lost already; if so, the table is scanned again in a new epoch".into(),
    };
    Some(finding(Severity::Warning, place, what, fix))
}

/// Tries each call that a capture makes; answers those that are not allowed.
async fn refused_calls(server: &Server, place: &str, table: &Table) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let mut allow = |call: &str, failure: Option<Failure>| match failure {
        None => Ok(()),
        Some(failure) if failure.kind == Kind::Denied => {
            let what = format!("these credentials may not call {call}: {}", failure.code);
            findings.push(finding(Severity::Error, place, what, format!("allow {call} on it")));
            Ok(())
        }
        // Throttled is allowed, and a shard may go away between two calls.
        Some(failure) if matches!(failure.kind, Kind::Throttled | Kind::NotFound | Kind::Trimmed) => Ok(()),
        Some(failure) => Err(of_failure("try what a capture needs", place, failure)),
    };
    let name = table.shape.table();
    let scan = server.tables().scan().table_name(name).limit(1).consistent_read(true).send().await;
    allow("dynamodb:Scan", scan.err().map(|error| failure(&error)))?;
    let Some(stream) = &table.stream else { return Ok(findings) };
    let described = server.streams().describe_stream().stream_arn(&stream.arn).limit(1).send().await;
    let described = match described {
        Ok(described) => described.stream_description,
        Err(error) => {
            allow("dynamodb:DescribeStream", Some(failure(&error)))?;
            return Ok(findings);
        }
    };
    let shard = described.and_then(|stream| stream.shards?.into_iter().next()?.shard_id);
    let Some(shard) = shard else { return Ok(findings) };
    let iterator = server
        .streams()
        .get_shard_iterator()
        .stream_arn(&stream.arn)
        .shard_id(shard)
        .shard_iterator_type(ShardIteratorType::TrimHorizon)
        .send()
        .await;
    match iterator {
        Ok(iterator) => {
            let records = server.streams().get_records().set_shard_iterator(iterator.shard_iterator).limit(1);
            allow("dynamodb:GetRecords", records.send().await.err().map(|error| failure(&error)))?;
        }
        Err(error) => allow("dynamodb:GetShardIterator", Some(failure(&error)))?,
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::super::table::{KeyAttribute, KeyKind, Shape};
    use super::*;

    fn table(view: Option<View>, capacity: Capacity) -> Table {
        let key = vec![KeyAttribute { name: "id".into(), kind: KeyKind::S }];
        Table {
            shape: Shape::new("t", key),
            id: "id".into(),
            stream: Some(StreamFacts { arn: "arn".into(), view }),
            capacity,
            bytes: 4096 * 1000,
            items: 10,
            indexes: Vec::new(),
        }
    }

    fn whats(table: &Table) -> Vec<(Severity, String)> {
        table_findings("table t", table).into_iter().map(|found| (found.severity, found.what)).collect()
    }

    #[test]
    fn a_stream_that_tells_what_an_item_became_is_enough() {
        for view in [View::NewImage, View::Both] {
            assert_eq!(whats(&table(Some(view), Capacity::OnDemand)), []);
        }
        for view in [Some(View::KeysOnly), Some(View::OldImage), None] {
            let found = whats(&table(view, Capacity::OnDemand));
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].0, Severity::Error);
        }
        let without = Table { stream: None, ..table(None, Capacity::OnDemand) };
        assert!(whats(&without)[0].1.contains("no stream"));
    }

    #[test]
    fn little_capacity_is_told_with_what_it_means() {
        let found = whats(&table(Some(View::Both), Capacity::Provisioned { read_units: 10 }));
        assert_eq!(found[0].0, Severity::Warning);
        assert!(found[0].1.ends_with("all of them for 100 s or more"), "{}", found[0].1);
        assert_eq!(whats(&table(Some(View::Both), Capacity::Provisioned { read_units: 4000 })), []);
    }

    #[test]
    fn a_long_absence_is_told_before_and_after_it_is_too_long() {
        let after = |hours: i64| away_finding("table t", Timestamp(0), Timestamp(hours * HOUR_US));
        assert_eq!(after(11), None);
        assert!(after(20).expect("a warning").fix.contains("in 4 hours"));
        assert!(after(30).expect("a warning").fix.contains("may be lost already"));
    }
}
