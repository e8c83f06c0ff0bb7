//! Whether a live table has indexes, which an operator may add while a run writes.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long what the service said is believed.
const BELIEVED: Duration = Duration::from_mins(1);

/// What is known of one table.
#[derive(Debug, Default)]
pub struct Indexed(Mutex<Option<(Instant, bool)>>);

impl Indexed {
    /// What was said lately, or what `ask` says now. One asks; others wait for its answer.
    pub async fn get(&self, now: Instant, ask: impl AsyncFnOnce() -> bool) -> bool {
        let mut known = self.0.lock().await;
        match *known {
            Some((since, indexed)) if now.saturating_duration_since(since) < BELIEVED => indexed,
            _ => known.insert((now, ask().await)).1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_index_that_comes_later_is_seen_within_a_minute() {
        let (indexed, start) = (Indexed::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!indexed.get(start, async || false).await);
        assert!(!indexed.get(after(59), async || true).await, "it is believed for a while");
        assert!(indexed.get(after(60), async || true).await);
        assert!(indexed.get(after(119), async || false).await);
        assert!(!indexed.get(after(120), async || false).await, "it went again");
    }
}
