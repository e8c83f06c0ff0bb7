//! How long a discrepancy has been there: carried from night to night by its id.
//!
//! A row that is wrong in another way than the night before, because one of its sides changed, is new.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Deserialize;

use crate::reconcile::{Discrepancy, Sides};

/// What ages need of a line of an earlier night; the rest of it may be of any form.
#[derive(Debug, Deserialize)]
pub struct Line {
    id: String,
    sides: Sides,
    first_seen: Timestamp,
    age_nights: u32,
}

/// What earlier nights found.
#[derive(Debug, Default)]
pub struct Earlier {
    /// By digest of the id, because there may be millions.
    seen: HashMap<[u8; 16], Seen>,
}

#[derive(Debug)]
struct Seen {
    sides: [u8; 16],
    first_seen: Timestamp,
    age_nights: u32,
}

impl Earlier {
    /// Takes a line of an earlier night up; newer nights come first, and theirs stay.
    pub fn remember(&mut self, line: &Line) {
        let seen = Seen { sides: sides(&line.sides), first_seen: line.first_seen, age_nights: line.age_nights };
        self.seen.entry(short(&[line.id.as_bytes()])).or_insert(seen);
    }

    /// Whether they found nothing.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Gives a discrepancy the age that its past says; without one, or with another one, it is new.
    pub fn date(&self, discrepancy: &mut Discrepancy, started: Timestamp) {
        if self.is_empty() {
            (discrepancy.first_seen, discrepancy.age_nights) = (started, 0);
            return;
        }
        let seen = self.seen.get(&short(&[discrepancy.id.as_bytes()]));
        let same = seen.filter(|seen| seen.sides == sides(&discrepancy.sides));
        let past = same.map(|seen| (seen.first_seen, seen.age_nights.saturating_add(1)));
        (discrepancy.first_seen, discrepancy.age_nights) = past.unwrap_or((started, 0));
    }
}

fn sides(sides: &Sides) -> [u8; 16] {
    let side = |side: &Option<String>| side.as_ref().map_or_else(|| "-".to_owned(), |digest| format!("={digest}"));
    short(&[side(&sides.expected).as_bytes(), side(&sides.actual).as_bytes()])
}

fn short(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    short
}
