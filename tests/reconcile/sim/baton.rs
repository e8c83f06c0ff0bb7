//! Lets one actor run at a time, the next chosen by a seed whenever the running one gives its turn away.
//!
//! All actors arrive before the first of them runs, so nothing depends on the machine's own scheduling: the same seed is the
//! same history, to the last byte. An actor must not wait for another but by giving its turn away.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use rand::Rng as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use tokio::sync::oneshot;

/// Who takes turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    Reconciler,
    Writer,
    Capture,
    Projector,
    Corruptor,
}

struct Inner {
    random: ChaCha8Rng,
    /// Actors that have not left.
    present: usize,
    /// Whether turns are not taken yet.
    alone: bool,
    waiting: BTreeMap<Actor, oneshot::Sender<()>>,
    turns: u64,
    history: Vec<String>,
}

/// The turn, and what happened in it.
pub struct Baton(Mutex<Inner>);

impl Baton {
    /// For so many actors.
    pub fn new(seed: u64, actors: usize) -> Self {
        Self(Mutex::new(Inner {
            random: ChaCha8Rng::seed_from_u64(seed),
            present: actors,
            alone: false,
            waiting: BTreeMap::new(),
            turns: 0,
            history: Vec::new(),
        }))
    }

    /// Gives the turn away, and returns when it is this actor's again.
    pub async fn turn(&self, me: Actor) {
        let turn = {
            let mut inner = self.lock();
            if inner.alone {
                return;
            }
            let (sender, turn) = oneshot::channel();
            assert!(inner.waiting.insert(me, sender).is_none(), "{me:?} takes one turn at a time");
            inner.pass();
            turn
        };
        turn.await.expect("whoever has the turn passes it on");
    }

    /// Says whether somebody acts without taking turns, before the others arrive.
    pub fn alone(&self, alone: bool) {
        self.lock().alone = alone;
    }

    /// Takes no turns any more.
    pub fn leave(&self) {
        let mut inner = self.lock();
        inner.present -= 1;
        inner.pass();
    }

    /// Turns taken so far.
    pub fn turns(&self) -> u64 {
        self.lock().turns
    }

    /// Whether something happens that does so in `some` of `many` times.
    pub fn chance(&self, some: u32, many: u32) -> bool {
        self.lock().random.random_ratio(some, many)
    }

    /// A number below another.
    pub fn below(&self, limit: usize) -> usize {
        self.lock().random.random_range(0..limit)
    }

    /// One of several.
    pub fn pick<T: Clone>(&self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// Writes down what happened.
    pub fn note(&self, what: String) {
        let mut inner = self.lock();
        let turns = inner.turns;
        inner.history.push(format!("{turns} {what}"));
    }

    /// What happened.
    pub fn history(&self) -> Vec<String> {
        self.lock().history.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no panic")
    }
}

impl Inner {
    /// Gives the turn to one of those who wait, when all do.
    fn pass(&mut self) {
        if self.waiting.len() < self.present {
            return;
        }
        let ready: Vec<Actor> = self.waiting.keys().copied().collect();
        if ready.is_empty() {
            return;
        }
        let next = ready[self.random.random_range(0..ready.len())];
        self.turns += 1;
        self.history.push(format!("{} {next:?}", self.turns));
        if let Some(turn) = self.waiting.remove(&next) {
            turn.send(()).expect("who waits is there");
        }
    }
}
