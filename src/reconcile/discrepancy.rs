//! One target row that is not as it should be: a line of `discrepancies.jsonl`.
//!
//! Row contents are in one place only, [`Shown::Value`], which is used when someone asked for them (I12); keys are shown, as
//! in the rest of the output.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Canonical as _, Key, key_text, to_hex};

/// One target row that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discrepancy {
    /// Stays the same from night to night: [`discrepancy_id`].
    pub id: String,
    /// What kind.
    pub kind: Kind,
    /// The target table.
    pub table: String,
    /// The row's key, as output shows keys.
    pub key: String,
    /// The unit it belongs to; absent when nobody knows.
    pub unit: Option<String>,
    /// The fields that differ; empty for whole rows.
    pub fields: Vec<Field>,
    /// What is known about it.
    pub state: State,
    /// Where it went wrong.
    pub blame: Blame,
    /// Positions that prove it.
    pub proof: Proof,
    /// Generation of the mapping that wrote the target row; absent when nobody knows.
    pub mapping: Option<u32>,
    /// Who wrote the target row.
    pub writer: Writer,
    /// When the target row was written; absent when nobody knows.
    pub written: Option<Timestamp>,
    /// Digests of both sides: when one of them changes, it is another discrepancy of the same row.
    pub sides: Sides,
    /// Begin of the first comparison that found it like this.
    pub first_seen: Timestamp,
    /// Nights in which it was found before.
    pub age_nights: u32,
}

/// A discrepancy as it is told of, before it is known whether anyone needs it whole: of a million that look alike most are
/// only counted.
#[derive(Debug)]
pub struct Told<'a> {
    /// What kind.
    pub kind: Kind,
    /// The target table.
    pub table: &'a str,
    /// The row's key, encoded.
    pub key: &'a [u8],
    /// The unit it belongs to; absent when nobody knows.
    pub unit: Option<&'a str>,
    /// The fields that differ; empty for whole rows, and where nobody looked.
    pub fields: Vec<Field>,
    /// What is known about it.
    pub state: State,
    /// Where it went wrong.
    pub blame: Blame,
    /// Positions that prove it.
    pub proof: &'a Proof,
    /// Who wrote the target row.
    pub writer: Writer,
    /// Digests of the row as it should be, and as it is.
    pub digests: [Option<[u8; 32]>; 2],
    /// When the comparison began.
    pub started: Timestamp,
}

/// What discrepancies have in common that look alike, and of which no fields are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alike {
    /// The target table.
    pub table: Box<str>,
    /// What kind.
    pub kind: Kind,
    /// What is known about them.
    pub state: State,
    /// Where they went wrong.
    pub blame: Blame,
    /// Who wrote the target rows.
    pub writer: Writer,
}

impl Told<'_> {
    /// Whether it is one of these.
    pub fn is_like(&self, alike: &Alike) -> bool {
        let Alike { table, kind, state, blame, writer } = alike;
        self.fields.is_empty()
            && (self.kind, self.state, self.blame, self.writer) == (*kind, *state, *blame, *writer)
            && *self.table == **table
    }

    /// What it has in common with others; nothing where its fields are told.
    pub fn alike(&self) -> Option<Alike> {
        let Self { kind, state, blame, writer, .. } = *self;
        self.fields.is_empty().then(|| Alike { table: self.table.into(), kind, state, blame, writer })
    }

    /// All of it, found for the first time.
    pub fn whole(self) -> Discrepancy {
        let key = Key::decode(self.key).map(|key| key_text(&key.0)).unwrap_or_default();
        let [expected, actual] = self.digests.map(|digest| digest.map(|digest| to_hex(&digest)));
        Discrepancy {
            id: discrepancy_id(self.unit, self.table, &key, self.kind),
            kind: self.kind,
            table: self.table.to_owned(),
            key,
            unit: self.unit.map(str::to_owned),
            fields: self.fields,
            state: self.state,
            blame: self.blame,
            proof: self.proof.clone(),
            mapping: None,
            writer: self.writer,
            written: None,
            sides: Sides { expected, actual },
            first_seen: self.started,
            age_nights: 0,
        }
    }
}

/// The id of a discrepancy: a digest of where it is and of its kind, never of contents.
///
/// Which fields differ is no part of it: that is known only of those that were looked at. What a side holds tells whether it is
/// the same difference still. Keys are known to whoever reads the report, so the digest has no secret.
pub fn discrepancy_id(unit: Option<&str>, table: &str, key: &str, kind: Kind) -> String {
    let mut place = Vec::with_capacity(128);
    for part in [unit.unwrap_or_default(), table, key, kind.name()] {
        place.extend_from_slice(&(part.len() as u64).to_be_bytes());
        place.extend_from_slice(part.as_bytes());
    }
    blake3::hash(&place).to_hex()[..32].to_owned()
}

/// Kinds of discrepancies; the classes of rows that are not as expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Differs.
    Changed,
    /// Expected and not there.
    Missing,
    /// There and not expected.
    Extra,
    /// One of several under one key.
    Duplicate,
    /// Someone else's row stands where an expected one should, and differs.
    Foreign,
    /// Someone else's row, as expected.
    MatchedForeign,
    /// Not ours to judge, by a rule.
    OutOfScope,
    /// Left the target by its own time to live.
    Expired,
    /// Of a parked part.
    Parked,
    /// The mapping cannot say what it should be.
    Unmappable,
    /// The legacy rows just read belong elsewhere than the router says.
    RoutedOtherwise,
}

impl Kind {
    /// Its name, as it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Changed => "changed",
            Kind::Missing => "missing",
            Kind::Extra => "extra",
            Kind::Duplicate => "duplicate",
            Kind::Foreign => "foreign",
            Kind::MatchedForeign => "matched_foreign",
            Kind::OutOfScope => "out_of_scope",
            Kind::Expired => "expired",
            Kind::Parked => "parked",
            Kind::Unmappable => "unmappable",
            Kind::RoutedOtherwise => "routed_otherwise",
        }
    }
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// The column or attribute, or a path within it.
    pub field: String,
    /// How it differs.
    pub kind: FieldKind,
    /// What should be there; absent for an extra one.
    pub expected: Option<Shown>,
    /// What is there; absent for a missing one.
    pub actual: Option<Shown>,
    /// The rule that looked at it and did not let it pass.
    pub rule: Option<String>,
}

/// How a field differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// Both sides have it.
    Changed,
    /// The target lacks it.
    Missing,
    /// Only the target has it.
    Extra,
}

/// A value, as far as it may be shown (I12).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Shown {
    /// Its text; only when someone asked for contents.
    Value(String),
    /// What it is like.
    Redacted {
        /// Its type, such as `text`.
        kind: String,
        /// Its length, in characters of text and in bytes of anything else.
        length: u64,
    },
}

/// What is known about a discrepancy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Proven.
    Confirmed,
    /// Changes are on their way, and nothing is proven.
    Unsettled,
    /// A waiver lets it pass.
    Waived,
    /// Its part is parked, and that is known.
    Parked,
}

/// Where it went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The log does not tell what the source holds.
    NotCaptured,
    /// The log tells it, and the target does not hold it.
    NotApplied,
    /// Its part is parked.
    Parked,
    /// Someone else wrote the row.
    Foreign,
    /// The row was written by another mapping than the present one.
    MappingChanged,
    /// The router put the legacy rows elsewhere.
    Router,
    /// None of these is proven.
    Unknown,
}

/// Who wrote a target row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writer {
    /// This migration.
    Rehome,
    /// Someone else.
    Foreign,
    /// Nobody knows, or there is no row.
    Unknown,
}

/// Positions that prove a discrepancy; absent ones were not needed or are not to be had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Position of the source at which its rows were read.
    pub source: Option<String>,
    /// Offset of the log up to which both were judged.
    pub log: Option<u64>,
    /// Position of the target at which its row was read.
    pub target: Option<String>,
}

/// Keyed digests of the two sides of a discrepancy, in hex.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sides {
    /// Of the row as it should be; absent when there should be none.
    pub expected: Option<String>,
    /// Of the row as it is; absent when there is none.
    pub actual: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_depends_on_the_place_and_the_kind_and_stays_what_it_was() {
        let first = discrepancy_id(Some("u"), "t", "k", Kind::Changed);
        assert_eq!(first, "f96a70f0ec31c88192a024abed289945");
        let others = [
            discrepancy_id(Some("v"), "t", "k", Kind::Changed),
            discrepancy_id(None, "t", "k", Kind::Changed),
            discrepancy_id(Some("u"), "tk", "", Kind::Changed),
            discrepancy_id(Some("u"), "t", "k", Kind::Missing),
        ];
        assert!(!others.contains(&first));
    }

    #[test]
    fn a_line_reads_back_and_what_is_not_known_is_refused() {
        let line = r#"{"id":"1","kind":"changed","table":"t","key":"k","unit":null,"fields":[{"field":"f","kind":"changed","expected":{"value":"x"},"actual":{"redacted":{"kind":"text","length":3}},"rule":null}],"state":"confirmed","blame":"not_applied","proof":{"source":"0/1","log":7,"target":null},"mapping":1,"writer":"rehome","written":"2026-01-02T03:04:05Z","sides":{"expected":"aa","actual":"bb"},"first_seen":"2026-01-02T03:04:05Z","age_nights":0}"#;
        let read: Discrepancy = serde_json::from_str(line).expect("the line is of this version");
        assert_eq!(serde_json::to_string(&read).expect("plain data"), line);
        let strange = line.replacen("\"key\"", "\"extra\":1,\"key\"", 1);
        assert!(serde_json::from_str::<Discrepancy>(&strange).is_err());
    }
}
