//! What a test has happen at chosen points of a comparison, where it is not left to chance.

use std::pin::Pin;
use std::sync::Arc;

use super::world::World;

/// A point of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The projector was asked where it stands, before anything was read.
    Begun,
    /// The target's snapshot was taken, the source's not yet.
    TargetTaken,
    /// The source's snapshot was taken, its position not yet.
    SourceTaken,
    /// Both sides were read.
    Read,
    /// The projection is about to be asked: where all stands, what became of parts, for parts, for a unit.
    Stand,
    Since,
    Parts,
    Unit,
    /// The source's rows of a unit were read, their position not yet asked for.
    Source,
    /// The target is about to be read.
    Target,
    /// It is waited for what is on its way.
    Pause,
}

/// What happens while a comparison waits for it.
pub type Happens = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Says what happens at each point.
pub type Steps = Box<dyn FnMut(Point, Arc<World>) -> Happens + Send>;

/// What happens at points; nothing where there is no script.
#[derive(Default)]
pub struct Script(tokio::sync::Mutex<Option<Steps>>);

impl Script {
    /// Has something happen at points from now on.
    pub async fn set(&self, steps: impl FnMut(Point, Arc<World>) -> Happens + Send + 'static) {
        *self.0.lock().await = Some(Box::new(steps));
    }

    /// Has happen what is to happen at a point; whether there is a script.
    pub async fn at(&self, point: Point, world: &Arc<World>) -> bool {
        match &mut *self.0.lock().await {
            Some(steps) => {
                steps(point, Arc::clone(world)).await;
                true
            }
            None => false,
        }
    }
}
