//! How a running process tells of itself in a status.

use crate::capture::Phase;
use crate::project::run::Progress;

use super::CaptureStatus;

/// One word for where a run is.
pub(super) fn phase(capture: Option<&CaptureStatus>, progress: Option<&Progress>) -> &'static str {
    let Some(progress) = progress else { return "stopped" };
    let Some(capture) = capture else {
        // Dumps are loaded whole before anything is projected.
        return if progress.end == 0 { "loading" } else { "projecting" };
    };
    match capture.phase {
        // A session that is being opened again after an error has not begun yet.
        _ if capture.error.is_some() && capture.phase != Phase::Stopped => "waiting",
        Phase::Waiting => "waiting",
        Phase::Starting => "starting",
        Phase::Copying => "copying",
        Phase::CatchingUp | Phase::Live if progress.units == 0 && !progress.current => "projecting",
        Phase::CatchingUp => "catching_up",
        Phase::Live if progress.current => "caught_up",
        Phase::Live => "live",
        Phase::Stopped => "stopping",
    }
}

/// The capture's own account of itself.
pub(super) fn capture_json(capture: &CaptureStatus) -> serde_json::Value {
    let tables: serde_json::Map<String, serde_json::Value> = capture
        .tables
        .iter()
        .map(|(name, table)| {
            let shown = serde_json::json!({
                "ranges_done": table.ranges_done, "ranges_total": table.ranges_total,
                "rows": table.rows, "bytes": table.bytes,
            });
            (name.to_string(), shown)
        })
        .collect();
    let streams: serde_json::Map<String, serde_json::Value> = capture
        .streams
        .iter()
        .map(|(name, stream)| {
            let shown = serde_json::json!({
                "shards_open": stream.shards_open, "shards_waiting": stream.shards_waiting,
                "newest": stream.newest.map(|time| time.to_string()),
            });
            (name.to_string(), shown)
        })
        .collect();
    let read_rate = capture.read_rate.map(|rate| {
        serde_json::json!({
            "units": rate.units, "units_per_second": rate.units_per_second,
            "limit": rate.limit, "throttled": rate.throttled,
        })
    });
    serde_json::json!({
        "streams": streams,
        "read_rate": read_rate,
        "phase": format!("{:?}", capture.phase).to_lowercase(),
        "epoch": capture.epoch.map(|epoch| epoch.0),
        "epoch_reason": capture.epoch_reason,
        "tables": tables,
        "durable": capture.durable.to_string(),
        "wal_end": capture.wal_end.to_string(),
        "lag_bytes": capture.wal_end.0.saturating_sub(capture.durable.0),
        "streamed": capture.streamed,
        "slot": capture.slot,
        "safe_wal_bytes": capture.safe_wal_bytes,
        "retained_bytes": capture.retained_bytes,
        "findings": capture.findings.iter().map(|finding| serde_json::json!({
            "place": finding.place, "what": finding.what, "fix": finding.fix,
        })).collect::<Vec<_>>(),
        "error": capture.error,
        "retries": capture.retries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_source_that_is_followed_is_caught_up_with() {
        let progress = |current| Progress { current, units: 1, ..Progress::default() };
        let capture = |phase, error: Option<&str>| {
            let error = error.map(str::to_owned);
            CaptureStatus { phase, error, ..CaptureStatus::default() }
        };
        let told = |found: CaptureStatus, current| phase(Some(&found), Some(&progress(current)));
        for (at, current, word) in [
            (Phase::Starting, true, "starting"),
            (Phase::Copying, true, "copying"),
            (Phase::CatchingUp, true, "catching_up"),
            (Phase::Live, true, "caught_up"),
            (Phase::Live, false, "live"),
            (Phase::Stopped, true, "stopping"),
        ] {
            assert_eq!(told(capture(at, None), current), word);
        }
        for at in [Phase::Waiting, Phase::Starting] {
            assert_eq!(told(capture(at, Some("it is away")), true), "waiting");
        }
        assert_eq!((phase(None, None), phase(None, Some(&progress(false)))), ("stopped", "loading"));
    }
}
