//! Where reports lie: `<reports>/<migration>/<night>/`, one folder for each comparison, named by its begin.
//!
//! A folder appears under its name when all of it is on the disk; until then its name ends in `.partial`, which nothing
//! reads. Nights sort by their names.

use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::{Timestamp, tz::TimeZone};

use super::Error;
use super::ages::{Earlier, Line};
use crate::reconcile::{Summary, VERSION, Verdict};

/// Everything about the verdict but single discrepancies.
pub const SUMMARY: &str = "summary.json";
/// One discrepancy a line.
pub const DISCREPANCIES: &str = "discrepancies.jsonl";
/// What can be handed on, and checked.
pub const CERTIFICATE: &str = "certificate.json";
/// The page.
pub const PAGE: &str = "report.html";
/// The same for places that show Markdown.
pub const MARKDOWN: &str = "report.md";

/// Ends the name of a folder that is being written.
pub(super) const PARTIAL: &str = ".partial";
/// Earlier nights whose discrepancies are read for ages: two weeks without one conclusive comparison are a matter of
/// their own, and each night read costs memory.
const NIGHTS_MAX: usize = 14;

/// How a night is written; no colons, which some file systems refuse.
const FORM: &str = "%Y-%m-%dT%H-%M-%SZ";

/// Names a comparison by its begin, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Night(Timestamp);

impl Night {
    /// The night of a comparison that began then.
    pub fn of(started: Timestamp) -> Self {
        Self(Timestamp::from_second(started.as_second()).unwrap_or(started))
    }

    /// Its begin for people, to the minute of UTC.
    pub fn minute(self) -> String {
        self.0.strftime("%Y-%m-%d %H:%M").to_string()
    }
}

impl fmt::Display for Night {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime(FORM))
    }
}

impl FromStr for Night {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Night(text.to_owned());
        let time = DateTime::strptime(FORM, text).map_err(|_| wrong())?;
        let night = Self(TimeZone::UTC.to_timestamp(time).map_err(|_| wrong())?);
        // Only the one way of writing it, because it is a folder's name.
        if night.to_string() == text { Ok(night) } else { Err(wrong()) }
    }
}

/// The reports of one migration.
#[derive(Debug, Clone)]
pub struct Reports {
    folder: PathBuf,
}

impl Reports {
    /// The reports of `migration` in a folder of reports, which need not be there yet.
    pub fn new(reports: &Path, migration: &str) -> Self {
        Self { folder: reports.join(migration) }
    }

    /// The folder that holds the nights.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a night.
    pub fn path(&self, night: Night) -> PathBuf {
        self.folder.join(night.to_string())
    }

    /// Nights that are whole, newest first.
    ///
    /// # Errors
    /// When the folder is there and cannot be read.
    pub fn nights(&self) -> Result<Vec<Night>, Error> {
        let mut nights: Vec<Night> = self.names()?.iter().filter_map(|name| name.parse().ok()).collect();
        nights.sort_by(|a, b| b.cmp(a));
        Ok(nights)
    }

    /// The newest night.
    ///
    /// # Errors
    /// [`Error::None`] when there is none.
    pub fn latest(&self) -> Result<Night, Error> {
        self.nights()?.first().copied().ok_or_else(|| Error::None(self.folder.clone()))
    }

    /// The summary of a night.
    ///
    /// # Errors
    /// [`Error::Form`] when another version wrote it.
    pub fn summary(&self, night: Night) -> Result<Summary, Error> {
        let path = self.path(night).join(SUMMARY);
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let summary: Summary = serde_json::from_str(&text).map_err(|error| Error::form(&path, 0, &error))?;
        if summary.version == VERSION { Ok(summary) } else { Err(Error::Form { path, line: 1, column: 1 }) }
    }

    /// Summaries of the newest nights before `night`, newest first; those that another version wrote are left out.
    pub(super) fn before(&self, night: Night, most: usize) -> Result<Vec<(Night, Summary)>, Error> {
        let mut found = Vec::new();
        for earlier in self.nights()?.into_iter().filter(|earlier| *earlier < night) {
            if found.len() == most {
                break;
            }
            match self.summary(earlier) {
                Ok(summary) => found.push((earlier, summary)),
                Err(error) => tracing::warn!(night = %earlier, %error, "an earlier report is left out"),
            }
        }
        Ok(found)
    }

    /// What earlier nights found: back to the last one that was conclusive and listed everything.
    ///
    /// A night whose lines cannot be read is passed over: ages are worth less than the report of this night.
    pub(super) fn earlier(&self, before: &[(Night, Summary)]) -> Earlier {
        let mut earlier = Earlier::default();
        for (night, summary) in before.iter().take(NIGHTS_MAX) {
            if let Err(error) = self.remember(*night, &mut earlier) {
                tracing::warn!(%night, %error, "ages of an earlier report are left out");
                continue;
            }
            // What a conclusive night did not find was not there. One that proved nothing may have missed it.
            if summary.verdict != Verdict::Incomplete && summary.details.listed == summary.details.found {
                break;
            }
        }
        earlier
    }

    fn remember(&self, night: Night, earlier: &mut Earlier) -> Result<(), Error> {
        let path = self.path(night).join(DISCREPANCIES);
        let lines = fs::File::open(&path).map_err(Error::file("read", &path))?;
        for (number, line) in BufReader::new(lines).lines().enumerate() {
            let line = line.map_err(Error::file("read", &path))?;
            let line: Line = serde_json::from_str(&line).map_err(|error| Error::form(&path, number, &error))?;
            earlier.remember(&line);
        }
        Ok(())
    }

    /// Names of what is in the folder; nothing when there is no folder.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file("read", &self.folder)(error)),
        };
        let names: Result<Vec<_>, _> =
            entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect();
        names.map_err(Error::file("read", &self.folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_night_is_named_in_one_way() {
        let night = Night::of("2026-01-31T02:03:04.567Z".parse().expect("a time"));
        assert_eq!(night.to_string(), "2026-01-31T02-03-04Z");
        assert_eq!(night.to_string().parse::<Night>().expect("a night"), night);
        for text in ["2026-01-31T02-03-04Z.partial", "2026-1-31T02-03-04Z", "2026-02-30T02-03-04Z", "..", ""] {
            assert!(text.parse::<Night>().is_err(), "{text}");
        }
    }
}
