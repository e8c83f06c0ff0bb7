//! Errors of whole operations, with what to do next.

use std::path::PathBuf;

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder or file could not be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was attempted, as a verb.
        action: &'static str,
        /// Which one.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// Another process owns the state folder and does not answer.
    #[error("{} is in use by {}, which does not answer: it is starting, or ending, or hangs", path.display(), who(*process))]
    Busy {
        /// The folder.
        path: PathBuf,
        /// The process, as far as it could say so.
        process: Option<u32>,
    },
    /// Another process owns the state folder, and this command must own it.
    #[error("{} is in use by a running rehome; stop it first", .0.display())]
    Running(PathBuf),
    /// The state folder was made for something else.
    #[error("{} belongs to {found}, not to {wanted}", path.display())]
    OtherMigration {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// The state store does not open, or what is in it does not read back.
    #[error("the state store in {} cannot be used", folder.display())]
    State {
        /// Where it lies.
        folder: PathBuf,
        /// What was found.
        #[source]
        source: crate::project::Error,
    },
    /// A folder holds something, and not a migration.
    #[error("{} holds {holds}, and does not say that it is a migration's state folder", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// Something in it.
        holds: String,
    },
    /// The running process began with other files than there are now.
    #[error("what runs in {} maps by other files than there are now", .0.display())]
    OtherMapping(PathBuf),
    /// A file cannot stand for a table.
    #[error("lookup {table}: {reason}")]
    Lookup {
        /// The table.
        table: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The source is not the one that the log was begun with.
    #[error("the source is another server or database than the one this migration was begun with")]
    OtherSource,
    /// The target holds the record of another state folder.
    #[error("the target holds {units} unit(s) of this migration that another state folder wrote")]
    Recorded {
        /// Units of the record.
        units: u64,
    },
    /// The target's items say that another state folder wrote them.
    #[error("the target holds at least {items} item(s) of this migration that another state folder wrote")]
    Marked {
        /// Items of the first page that has any.
        items: u64,
    },
    /// A slot that is to be removed is being read.
    #[error("replication slot {0} is active: a rehome with another state folder reads it")]
    SlotHeld(String),
    /// A unit that is not parked was to be left out.
    #[error("unit {0} is not parked: leaving it out would remove its rows from the target")]
    NotParked(String),
    /// What was to be erased must not be, or not yet.
    #[error("nothing was erased: {reason}")]
    NotErased {
        /// Why.
        reason: String,
        /// What to do about it, when that is known.
        next: Option<String>,
    },
    /// No slot and publication of its own can be named after a migration.
    #[error("the name {name} {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The migration has no such source table.
    #[error("the migration has no source table {table}")]
    NoSourceTable {
        /// What was asked for.
        table: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Nothing was set up yet.
    #[error("{} holds no migration yet", .0.display())]
    NotUp(PathBuf),
    /// A table that is to be read is not there.
    #[error("the {side} has no table {table}")]
    NoTable {
        /// `source` or `target`.
        side: &'static str,
        /// The table.
        table: String,
    },
    /// No table of a store can be migrated.
    #[error("there is nothing to migrate:\n  {}", .0.join("\n  "))]
    NothingToDraft(Vec<String>),
    /// A first draft does not pass the checks that it was written for.
    #[error("the draft does not pass `rehome check`, so nothing was written:\n{0}")]
    Draft(String),
    /// Both sides could not be compared.
    #[error("the comparison could not be made")]
    Reconcile(#[from] crate::reconcile::Error),
    /// A connection address was not given.
    #[error("the address of the {side} database is not known")]
    NoAddress {
        /// `source` or `target`.
        side: &'static str,
    },
    /// The source lacks something.
    #[error("the source is not ready: {} thing(s) to mend", .0.len())]
    NotReady(Vec<crate::postgres::preflight::Finding>),
    /// There is no such unit.
    #[error("no unit {0}")]
    NoUnit(String),
    /// A changed schema cannot be accepted.
    #[error("{table}: {reason}")]
    NotAcceptable {
        /// Table.
        table: String,
        /// Why.
        reason: String,
        /// What to do about it.
        next: &'static str,
    },
    /// The running process answered with an error.
    #[error("{0}")]
    Remote(String),
    /// Dumps cannot be loaded as asked, or a live source not captured because of them.
    #[error("{0}")]
    Dumps(String),
    /// A dump cannot be loaded.
    #[error(transparent)]
    Load(#[from] crate::capture::load::Error),
    /// An address of another kind of store than the migration is for.
    #[error("the migration's {side} is another kind of store than this address is for; it looks like {wanted}")]
    OtherStore {
        /// `source` or `target`.
        side: &'static str,
        /// What its address looks like.
        wanted: &'static str,
    },
    /// The migration declares no such query.
    #[error("there is no query {name}")]
    NoQuery {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A query was asked with arguments that it does not take.
    #[error(transparent)]
    Query(#[from] crate::mapping::Unfit),
    /// The source failed.
    #[error(transparent)]
    Source(#[from] crate::source::Error),
    /// The capture failed.
    #[error(transparent)]
    Capture(crate::capture::Error),
    /// The target failed.
    #[error(transparent)]
    Target(#[from] crate::target::Error),
    /// The target's address does not read as one.
    #[error("the target's address is not usable: {reason}")]
    TargetAddress {
        /// What is wrong with it, without the address itself, which may hold a password.
        reason: String,
    },
    /// The log failed.
    #[error(transparent)]
    Log(#[from] crate::log::Error),
    /// The projection failed.
    #[error(transparent)]
    Project(#[from] crate::project::Error),
    /// A unit could not be read.
    #[error(transparent)]
    Unit(#[from] crate::mapping::ReadError),
}

impl Error {
    /// The same, where it was the target that was read as a source is.
    pub(super) fn at_target(self) -> Self {
        use crate::source::Error as Read;
        use crate::target::Error::{Refused, Unreachable};
        match self {
            Error::Source(Read::Address { reason }) => Error::TargetAddress { reason },
            Error::Source(Read::Unreachable { action, reason }) => {
                Error::Target(Unreachable { action, source: reason.into() })
            }
            Error::Source(Read::Refused { action, code, message }) => Error::Target(Refused { action, code, message }),
            Error::Source(Read::Throttled { action, code }) => {
                Error::Target(Unreachable { action, source: code.into() })
            }
            Error::Source(Read::Unreadable { action, detail }) => {
                Error::Target(Refused { action, code: "unreadable:".to_owned(), message: detail })
            }
            other => other,
        }
    }
}

impl From<crate::capture::Error> for Error {
    fn from(error: crate::capture::Error) -> Self {
        match error {
            crate::capture::Error::NotReady(findings) => Error::NotReady(findings),
            crate::capture::Error::Source(error) => Error::Source(error),
            crate::capture::Error::Log(error) => Error::Log(error),
            other => Error::Capture(other),
        }
    }
}

impl Error {
    /// Names the folder of the state store where that is what cannot be used: nothing else may be deleted for it.
    pub(super) fn in_state(self, folder: &std::path::Path) -> Self {
        use crate::project::Error as Failed;
        match self {
            Error::Project(source @ (Failed::Damaged(_) | Failed::State { action: "open", .. })) => {
                Error::State { folder: folder.to_owned(), source }
            }
            other => other,
        }
    }

    /// What a person can do about it, when that is known.
    pub fn hint(&self) -> Option<String> {
        if let Error::NoQuery { known, .. } = self {
            let text = if known.is_empty() {
                "it declares none".to_owned()
            } else {
                format!("there are: {}", known.join(", "))
            };
            return Some(text);
        }
        if let Error::NoSourceTable { known, .. } = self {
            return Some(format!("there are: {}", known.join(", ")));
        }
        if let Error::NotErased { next, .. } = self {
            return next.clone();
        }
        if let Error::State { folder, source } = self {
            let disk = if matches!(source, crate::project::Error::State { .. }) {
                "check the disk; if that is well, "
            } else {
                ""
            };
            let folder = folder.display();
            return Some(format!("{disk}delete {folder} and nothing else: it is rebuilt from the log beside it"));
        }
        let text = match self {
            Error::File { .. } => "check that the disk is not full and that the folder may be written",
            Error::Busy { .. } => "try again in a moment; a process that hangs is ended by SIGTERM, sent twice",
            Error::Running(_) => "send SIGTERM to it, or run `rehome stop`",
            Error::OtherMigration { .. } => "name another folder with --state",
            Error::NotEmpty { .. } => {
                "name an empty folder, or one that is not there yet, with --state; where this one is the migration's own, write \
                 the migration's name into a file `migration` in it"
            }
            Error::OtherMapping(_) => {
                "stop the run and start it again: it evaluates everything again as the files say now"
            }
            Error::OtherSource => "check --source; if it is right, as after a restore, run again with --accept-source",
            Error::Recorded { .. } | Error::Marked { .. } => {
                "name that folder with --state; if it is lost, `rehome up MIGRATION --adopt` takes its units over"
            }
            Error::SlotHeld(_) => {
                "name its folder with --state, or stop it; if its machine is gone, end its session: \
                 select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '…'"
            }
            Error::NothingToDraft(_) => "name other tables with --tables, or mend what is listed",
            Error::Draft(_) => "name the other tables with --tables, and please report this",
            Error::NotParked(_) => {
                "`rehome quarantine list` tells parked units (scope `unit`) from single rows in quarantine, which are left out as it is"
            }
            Error::Project(crate::project::Error::OtherWriter) => {
                "stop the other rehome that writes this migration, or name its folder with --state"
            }
            Error::Project(crate::project::Error::Emptied { .. }) => {
                "check that the source, or the dump, is the right one; if the table was emptied on purpose, pass --sweep-max 18446744073709551615"
            }
            Error::Target(crate::target::Error::Refused { .. })
            | Error::Project(crate::project::Error::Target(crate::target::Error::Refused { .. })) => {
                "mend what the target's server says, and give the same command again: nothing was lost; `rehome up` creates missing tables"
            }
            Error::Source(crate::source::Error::Refused { .. }) => {
                "`rehome check --source URL` names what is missing, and its fix"
            }
            Error::Query(_) => "`rehome query MIGRATION` lists the queries with their arguments",
            Error::NotUp(_) => "run `rehome up MIGRATION --source URL --target URL` first",
            Error::NoAddress { side: "source" } => "pass --source URL or set REHOME_SOURCE",
            Error::NoAddress { .. } => "pass --target URL or set REHOME_TARGET",
            Error::Source(crate::source::Error::Address { .. }) => {
                "--source is postgres://USER@HOST/DATABASE or dynamodb://REGION"
            }
            Error::TargetAddress { .. } => "--target is postgres://USER@HOST/DATABASE or dynamodb://REGION",
            Error::NotReady(_) => "mend what is listed and run the command again",
            Error::NoUnit(_) => "the unit is neither in the source nor in the state; check its spelling",
            Error::NotAcceptable { next, .. } => next,
            Error::Name { .. } => {
                "give it another name, after `migration =` in mapping.toml: letters from a to z, digits and _"
            }
            Error::OtherStore { .. } => {
                "check --source and --target, and REHOME_SOURCE and REHOME_TARGET: they may stand in each other's place"
            }
            Error::Source(crate::source::Error::Unreachable { .. }) => {
                "check the source's address, and that the server runs"
            }
            Error::Target(crate::target::Error::Unreachable { .. }) => {
                "check the target's address, and that the server runs"
            }
            Error::Capture(crate::capture::Error::File(_)) => "correct the file, and run again: nothing was lost",
            Error::Capture(_)
            | Error::Log(_)
            | Error::Project(crate::project::Error::Log(_))
            | Error::Project(crate::project::Error::State { .. }) => {
                "check the disk; what was acknowledged is kept, and the next run goes on from it"
            }
            Error::Project(crate::project::Error::Damaged(_)) => {
                "delete the folder `state` in the state folder and nothing else: it is rebuilt from the log beside it"
            }
            Error::Project(crate::project::Error::LogDamaged(_)) => {
                "put a copy of the state folder back that was made before, or begin anew: another --state, and `rehome up MIGRATION --adopt`"
            }
            Error::Project(crate::project::Error::Breaker { .. }) => {
                "look at `rehome quarantine list`, mend the cause, `rehome quarantine retry`, and give the same command again; \
                 --park-percent-max 100 never halts"
            }
            Error::Reconcile(crate::reconcile::Error::Digests { .. }) => {
                "compare again on another machine, and report this: it is a fault of the processor or of rehome"
            }
            Error::Reconcile(crate::reconcile::Error::SpillBroken { .. }) => "check the disk, and compare again",
            Error::Reconcile(crate::reconcile::Error::Spill { .. }) => "make room, or name another folder with --spill",
            Error::Reconcile(error) if error.may_pass() => {
                "compare again with --resume: what was read and has not changed is not read again"
            }
            Error::Project(crate::project::Error::Unread { .. }) => {
                "see that legacy.toml says what the live tables are like; then `rehome accept-schema MIGRATION TABLE`, or with \
                 --read-again where the columns cannot be told from what is in the log; then run again"
            }
            Error::Project(crate::project::Error::SweepTooLarge { .. }) => {
                "check that the source, or the dump, is the right one; then give the same command again with --sweep-max N"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// A process, for people.
fn who(process: Option<u32>) -> String {
    process.map_or_else(|| "another process".to_owned(), |process| format!("process {process}"))
}
