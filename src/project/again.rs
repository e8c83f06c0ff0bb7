//! When parts are tried again whose rows refer to others that were not at the target, or found others in their place: pure.
//!
//! What they refer to is written by this migration, or by the application, and either may take away what is in the way. So
//! they are tried when rows were written since, again and again while that brings something, and else ever more rarely; a
//! try that brings nothing is not repeated within a tick, or a target under live writes would spend its time on it. While
//! changes come in without end, rows are written all the time and say nothing of the last try: then only time counts, and
//! the shortest wait leaves most of it to the changes.

/// Ticks after which they are tried although nothing was written, at first; it doubles.
const WAIT_MIN: u32 = 10;
/// And at last: ten minutes of ticks of a second.
const WAIT_MAX: u32 = 600;
/// Tries within a tick, each of which brought something: more are left to the next, should two parts ever undo each other.
const TRIES_MAX: u32 = 50;

/// Whether there is anything else to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Everything in the log has been projected.
    Idle,
    /// The log holds more already.
    Changes,
}

/// Decides when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// Whether a try is allowed before the next tick.
    allowed: bool,
    /// Tries since the last tick.
    tries: u32,
    /// Rows written, when they were tried last.
    tried_at: u64,
    /// Whether the last try has not been judged yet.
    judged: bool,
    /// Ticks since the last try.
    ticks: u32,
    /// Ticks to wait.
    wait: u32,
}

impl Default for Again {
    fn default() -> Self {
        Self { allowed: true, tries: 0, tried_at: 0, judged: true, ticks: 0, wait: WAIT_MIN }
    }
}

impl Again {
    /// Some time has passed.
    pub fn tick(&mut self) {
        self.allowed = true;
        self.tries = 0;
        self.ticks = self.ticks.saturating_add(1);
    }

    /// Whether they are to be tried now; `written` counts the rows written so far.
    pub fn due(&mut self, written: u64, load: Load) -> bool {
        if !self.judged {
            self.judged = true;
            let fruitless = written == self.tried_at;
            self.allowed &= !fruitless;
            self.wait = if fruitless { (self.wait * 2).min(WAIT_MAX) } else { WAIT_MIN };
        }
        let brought = load == Load::Idle && self.allowed && self.tries < TRIES_MAX && written != self.tried_at;
        let due = self.ticks >= self.wait || brought;
        if due {
            let tries = self.tries + 1;
            *self = Self { allowed: true, tries, tried_at: written, judged: false, ticks: 0, wait: self.wait };
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_tried_while_it_brings_something() {
        let mut again = Again::default();
        assert!(!again.due(0, Load::Idle), "nothing was written");
        assert!(again.due(5, Load::Idle) && again.due(6, Load::Idle) && again.due(9, Load::Idle));
        assert!(!again.due(9, Load::Idle), "the last try wrote nothing");
        assert!(!again.due(12, Load::Idle), "not before time has passed, whatever else is written");
        again.tick();
        assert!(again.due(12, Load::Idle));
        assert_eq!(
            (13..).take_while(|written| again.due(*written, Load::Idle)).count(),
            49,
            "not for ever within a tick"
        );
    }

    #[test]
    fn and_else_ever_more_rarely() {
        let mut again = Again::default();
        let mut tries = Vec::new();
        for tick in 1..3000 {
            again.tick();
            if again.due(0, Load::Idle) {
                tries.push(tick);
            }
        }
        assert_eq!(tries[..4], [10, 30, 70, 150]);
        assert_eq!(tries[tries.len() - 1] - tries[tries.len() - 2], 600);
    }

    #[test]
    fn under_changes_without_end_they_are_tried_as_time_passes() {
        let mut again = Again::default();
        let mut tries = Vec::new();
        for tick in 1..40 {
            again.tick();
            // Rows are written with every look, whatever the last try brought.
            tries.extend((0..5).filter(|look| again.due(tick * 5 + look, Load::Changes)).map(|_| tick));
        }
        assert_eq!(tries, [10, 20, 30]);
    }
}
