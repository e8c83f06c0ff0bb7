//! Batches of a pass that are not finished: one being evaluated, one that waits for its turn, those on their way to the target.

use std::collections::VecDeque;

use tokio::task::JoinHandle;

use super::Error;
use super::pick::Picked;
use super::prepare::{Carried, Prepared};
use super::write::Writing;

/// Parts being picked on the blocking pool; with them comes where the next batch begins.
pub type Picking = JoinHandle<Result<(Vec<Picked>, Option<Vec<u8>>), Error>>;

/// Parts being evaluated on the blocking pool.
pub type Evaluating = JoinHandle<Result<Ahead, Error>>;

/// A batch that was evaluated, and the next one on its way.
pub struct Ahead {
    pub prepared: Vec<Prepared>,
    pub picking: Option<Picking>,
    pub carried: Carried,
}

/// A batch on its way to the target.
pub struct Begun {
    pub prepared: Vec<Prepared>,
    /// Parts that its claims called back.
    pub called_back: u64,
    pub writing: Writing,
}

/// Batches of a pass that are not finished.
pub struct InHand {
    pub evaluating: Option<Evaluating>,
    /// Evaluated, and to be written next.
    pub ready: Option<Vec<Prepared>>,
    /// Whether the last one on its way has parts only that were never written before.
    fresh: bool,
    /// The oldest first.
    writing: VecDeque<Begun>,
}

impl InHand {
    /// The first one is being evaluated.
    pub fn new(first: Evaluating) -> Self {
        Self { evaluating: Some(first), ready: None, fresh: false, writing: VecDeque::new() }
    }

    /// Batches on their way to the target.
    pub fn written_now(&self) -> usize {
        self.writing.len()
    }

    /// Takes the batch that is to be written next, if its turn has come. Up to `at_once` stand beside each other, and none whose parts were
    /// written before: those may let go of keys that the next batch wants.
    pub fn take_next(&mut self, at_once: usize) -> Option<Vec<Prepared>> {
        let fresh = |prepared: &[Prepared]| prepared.iter().all(|part| part.before.is_none());
        let (going, all_fresh) = (self.writing.len(), self.fresh);
        let next = self.ready.take_if(|next| going == 0 || going < at_once && all_fresh && fresh(next))?;
        self.fresh = fresh(&next);
        Some(next)
    }

    /// Adds a batch that is on its way.
    pub fn push(&mut self, begun: Begun) {
        self.writing.push_back(begun);
    }

    /// Waits until the oldest batch is written, or any of them refused: what is refused is told at once, however long those before it are
    /// tried again. Cancel-safe.
    pub async fn oldest_written(&mut self) -> Result<(), Error> {
        let mut batches = self.writing.iter_mut().map(|begun| begun.writing.written());
        let Some(oldest) = batches.next() else { return Ok(()) };
        let later = async {
            match futures_util::future::try_join_all(batches).await {
                Ok(_) => std::future::pending().await,
                Err(error) => Err(error),
            }
        };
        tokio::select! {
            written = oldest => written,
            refused = later => refused,
        }
    }

    /// Takes the oldest batch.
    pub fn pop(&mut self) -> Option<Begun> {
        self.writing.pop_front()
    }

    /// Gives them up; nothing is left running behind.
    pub async fn end(self) {
        for begun in self.writing {
            begun.writing.give_up().await;
        }
        if let Some(Ok(Ok(Ahead { picking, .. }))) = futures_util::future::OptionFuture::from(self.evaluating).await {
            join_picking(picking).await;
        }
    }
}

/// Waits for parts being picked that nobody needs any more.
pub async fn join_picking(picking: Option<Picking>) {
    if let Some(picking) = picking {
        let _ = picking.await;
    }
}
