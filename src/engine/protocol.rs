//! What commands ask of the process that owns a state folder, and what it answers: one JSON line each way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::capture::load::file::Standing;
use crate::project::conservation::Conservation;
use crate::project::result::{PartResult, QuarantinedRow};
use crate::project::run::{Halt, Progress};

/// What is sent: a question, and what it takes for granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The migration that is asked about.
    pub migration: String,
    /// Digest of the mapping that whoever asks maps by, in hex; absent where the answer is the same whatever it is.
    pub mapping: Option<String>,
    /// The question itself.
    pub request: Request,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask", deny_unknown_fields)]
pub enum Request {
    /// Where everything stands.
    Status,
    /// Units that are parked, and rows that alone are in quarantine.
    Quarantine,
    /// One unit: where it stands, and the rows that the mapping makes of it as of the log.
    Unit {
        /// The unit.
        unit: String,
    },
    /// Every unit that the log tells of.
    Units,
    /// Where log and projection stand, and which parts wait.
    Stand,
    /// What became of parts since an offset of the log.
    Since {
        /// The offset.
        offset: u64,
        /// The parts, as the state names them, in hex.
        parts: Vec<String>,
    },
    /// Parts as of the log, evaluated now.
    Parts {
        /// The parts, as the state names them, in hex.
        parts: Vec<String>,
    },
    /// Files that stand for tables.
    Files,
    /// Evaluate units again.
    Retry {
        /// Units; all in quarantine but skipped ones when empty.
        units: Vec<String>,
    },
    /// Leave a unit out of the migration, for a reason that is kept.
    Skip {
        /// The unit.
        unit: String,
        /// The reason.
        reason: String,
    },
    /// Take a table's changed shape, and go on with its events.
    AcceptSchema {
        /// The table.
        table: String,
        /// Whether to give up the events held back, and to read the source again instead.
        read_again: bool,
    },
    /// Records of the log.
    Log {
        /// Offset of the first.
        from: u64,
        /// How many at most.
        limit: u64,
        /// Whether to show contents.
        reveal: bool,
        /// Only records of this source table.
        table: Option<String>,
    },
    /// Stop cleanly.
    Stop,
}

/// Whether an answer means anything to one who maps otherwise than the process that gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// It speaks of target rows or of parts, as a mapping makes them: both must have the same one.
    AsMapped,
    /// It speaks for itself.
    Alone,
}

impl Request {
    /// What its answer is read by.
    pub fn reads(&self) -> Reads {
        match self {
            Request::Unit { .. } | Request::Units | Request::Stand | Request::Since { .. } | Request::Parts { .. } => {
                Reads::AsMapped
            }
            Request::Status
            | Request::Quarantine
            | Request::Files
            | Request::Retry { .. }
            | Request::Skip { .. }
            | Request::AcceptSchema { .. }
            | Request::Log { .. }
            | Request::Stop => Reads::Alone,
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Quarantine`].
    Quarantine {
        /// Units, parked or with quarantined rows, in order.
        units: Vec<ParkedUnit>,
    },
    /// To [`Request::Unit`].
    Unit(Box<UnitView>),
    /// To [`Request::Units`].
    Units {
        /// In order of their keys in the state.
        units: Vec<String>,
    },
    /// To [`Request::Stand`].
    Stand(Stand),
    /// To [`Request::Since`].
    Since {
        /// In the order of the parts asked for.
        parts: Vec<PartStand>,
    },
    /// To [`Request::Parts`].
    Parts {
        /// In the order of the parts asked for; `None` for one that the log does not tell of.
        parts: Vec<Option<PartView>>,
    },
    /// To [`Request::Files`].
    Files {
        /// The files.
        files: Vec<Standing>,
    },
    /// To [`Request::Retry`], [`Request::Skip`]: units that will be evaluated again.
    Noted {
        /// How many.
        units: u64,
        /// Skipped units that were left as they are, since nobody named them.
        #[serde(default)]
        skipped: u64,
    },
    /// To [`Request::AcceptSchema`].
    Accepted {
        /// What changed.
        difference: String,
    },
    /// To [`Request::Log`].
    Log {
        /// Records as JSON.
        records: Vec<serde_json::Value>,
        /// Offset to go on from.
        next: u64,
    },
    /// To [`Request::Stop`].
    Stopping,
    /// The process works on another migration than the one that is asked about.
    OtherMigration {
        /// Which one.
        found: String,
    },
    /// The process maps otherwise than whoever asks, and the answer would be misread.
    OtherMapping,
    /// The question could not be answered.
    Failed {
        /// Why.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// Where log and projection stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stand {
    /// Offset up to which the log is applied to the state.
    pub applied: u64,
    /// Offset after its last record.
    pub end: u64,
    /// Tells logs apart.
    pub generation: u64,
    /// Generation of the mapping.
    pub mapping: u32,
    /// The log holds everything that the source wrote up to this position; absent when nothing is being captured, and while an
    /// epoch is copied.
    pub captured: Option<String>,
    /// Parts that wait to be projected, as the state names them, in hex; absent when there are too many to list.
    pub waiting: Option<Vec<String>>,
    /// Parts that rows at the target hold back, and that are tried again from time to time without any record that says so;
    /// likewise.
    #[serde(default)]
    pub held_back: Option<Vec<String>>,
    /// Writes so far that changed rows with no record that says so.
    #[serde(default)]
    pub again: u64,
    /// Whether records were applied whose answers concern parts that are yet to be found: these neither wait nor have changed,
    /// as far as the state knows.
    #[serde(default)]
    pub waking: bool,
}

/// A part as of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartView {
    /// Offset of the last record that concerned it.
    pub last: u64,
    /// Whether it waits to be projected, or changed while it was looked at.
    pub moving: bool,
    /// Why it is parked, if it is.
    pub parked: Option<String>,
    /// Target rows that the mapping makes of it: table, and canonical encoding of the values in hex.
    pub rows: Vec<(u16, String)>,
}

/// What became of a part since an offset of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartStand {
    /// How it stands.
    pub motion: Motion,
    /// Why it is parked, if it is.
    pub parked: Option<String>,
}

/// Whether a part was left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Motion {
    /// No record concerned it, and it is projected.
    Still,
    /// A record concerned it, or it waits to be projected.
    Stirred,
    /// The log does not tell of it.
    Unknown,
}

/// A unit that is parked, or holds rows that are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedUnit {
    /// The unit; empty for rows that have none.
    pub unit: String,
    /// What became of it, or of the part of it that is parked.
    pub result: PartResult,
    /// Rows that alone are quarantined, the first thousand.
    pub rows: Vec<QuarantinedRow>,
}

/// Where everything stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Migration.
    pub migration: String,
    /// Whether a `run` or a `load` is under way.
    pub running: bool,
    /// One word for where it is: `stopped`, `loading` dumps, `starting`, `copying`, `projecting`, `catching_up` until the stream has passed the end
    /// of the copy, `live`, `caught_up`, `waiting` while the source is away, `stopping`.
    pub phase: String,
    /// The capture as it tells of itself; absent when stopped.
    pub capture: Option<serde_json::Value>,
    /// The projection as it tells of itself; absent when stopped.
    pub progress: Option<Progress>,
    /// Offset after the last record of the log.
    pub log_end: u64,
    /// Offset after the last record applied.
    pub applied: u64,
    /// Units, or parts of them, that wait to be projected.
    pub dirty: u64,
    /// Why no further run goes on, where one halted because too many parts are parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<Halt>,
    /// Tables whose changed shape waits to be accepted, and what changed.
    pub paused: BTreeMap<String, String>,
    /// Optional tables that the source lacked when it was last looked over.
    #[serde(default)]
    pub skipped: Vec<String>,
    /// Files that stand for tables.
    #[serde(default)]
    pub files: Vec<Standing>,
    /// The conservation equations.
    pub conservation: Conservation,
    /// Whether all of them hold.
    pub balanced: bool,
}

impl Status {
    /// Whether every row read is accounted for, and none waits or is quarantined.
    pub fn proven(&self) -> bool {
        let rows = &self.conservation.rows;
        let quarantined = rows.values().any(|rows| !rows.counts.quarantined.is_empty());
        let waiting = rows.values().any(|rows| rows.waiting > 0);
        self.balanced && !waiting && !quarantined && self.conservation.parked() == 0 && self.paused.is_empty()
    }
}

/// One unit as of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitView {
    /// Whether the log ever told of it.
    pub known: bool,
    /// Offset of the last record applied to it.
    pub offset: u64,
    /// Whether it still waits to be projected.
    pub dirty: bool,
    /// Offset after the last record applied to any unit.
    pub applied: u64,
    /// Offset after the last record of the log.
    pub end: u64,
    /// The log holds everything of the source up to this position; absent when nothing is being captured, and while an epoch is
    /// copied.
    pub captured: Option<String>,
    /// What became of it.
    pub result: Option<PartResult>,
    /// Target rows that the mapping makes of it: table, and canonical encoding of the values in hex.
    pub rows: Vec<(u16, String)>,
    /// Keys that it was written under, where the target keeps no record: table, and canonical encoding in hex.
    #[serde(default)]
    pub owned: Vec<(u16, String)>,
}
