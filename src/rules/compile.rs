//! From the file as written to the rules it means, once; every problem is noted, none stops the others.

use std::fmt::Write as _;

use jiff::civil::Date;
use toml::value::Datetime;

use super::compile_term::Columns;
use super::raw::{self, Name};
use super::ruleset::{RuleId, RuleKind, RuleText, Ruleset, When, meaning};
use super::table::{Matching, Waiver};
use crate::mapping::{LoadError, Migration, Problems, SourceFile, Spanned, parse_toml};
use crate::target::TargetTable;

/// The page that describes the language.
const PAGE: &str = "docs/rules.md";
/// More rules than a file may have: a [`RuleId`] is two bytes.
const RULES_MAX: usize = u16::MAX as usize;
/// Members of a rule that say nothing about rows.
const SAYINGS: [&str; 4] = ["reason", "author", "until", "name"];
/// Kinds of rules that decide about what is compared as what, by their names in the file.
const DECIDING: [&str; 6] = ["scope", "retention", "normalise", "ignore", "match", "tolerate"];
/// Kinds that decide about what is found.
const JUDGING: [&str; 2] = ["waive", "expect"];

impl Ruleset {
    /// Reads the text of `reconcile-rules/<migration>.toml`, for a run on the day `today`: a rule whose `until` is past is an
    /// error, because what it excused is to be looked at now.
    ///
    /// # Errors
    /// [`LoadError`] with every problem found, each with file, line, column and remedy.
    pub fn read(file: &SourceFile, migration: &Migration, today: Date) -> Result<Self, LoadError> {
        let mut found = Vec::new();
        let raw: Option<raw::Rules> = parse_toml(file, PAGE, &mut found);
        if let Some(raw) = raw {
            let problems = Problems::new(file.clone());
            let mut compiler = Compiler { migration, today, file, problems, rules: Ruleset::none(migration) };
            compiler.all(&raw);
            compiler.rules.id = meaning(&normal_form(&file.text, &DECIDING));
            compiler.rules.whole = meaning(&normal_form(&file.text, &[&DECIDING[..], &JUDGING].concat()));
            found.extend(compiler.problems.into_found());
            if found.is_empty() {
                return Ok(compiler.rules);
            }
        }
        Err(LoadError { migration: migration.name().to_owned(), problems: found })
    }
}

/// What a rule says about itself.
pub(super) struct Head<'a> {
    pub kind: RuleKind,
    pub table: Option<&'a str>,
    pub fields: &'a [Name],
    pub says: String,
    pub reason: &'a Name,
    pub author: Option<&'a str>,
    pub until: Option<&'a Spanned<Datetime>>,
}

pub(super) struct Compiler<'a> {
    pub migration: &'a Migration,
    pub today: Date,
    pub file: &'a SourceFile,
    pub problems: Problems,
    pub rules: Ruleset,
}

impl Compiler<'_> {
    fn all(&mut self, raw: &raw::Rules) {
        if raw.migration.get_ref() != self.migration.name() {
            let message = format!("these rules are for `{}`", raw.migration.get_ref());
            let fix = format!("write migration = \"{}\", or move the rules to their file", self.migration.name());
            self.problems.push(raw.migration.span(), message, fix);
        }
        raw.scope.iter().for_each(|rule| self.scope(rule));
        raw.retention.iter().for_each(|rule| self.retention(rule));
        // Before the rules that may be about its pairs alone; ids go by kind in the order of RuleKind.
        let matched: Vec<TargetTable> =
            raw.matching.iter().filter_map(|rule| self.known_table(rule.table.get_ref())).collect();
        raw.normalise.iter().for_each(|rule| self.normalise(rule, &matched));
        raw.ignore.iter().for_each(|rule| self.ignore(rule, &matched));
        raw.matching.iter().for_each(|rule| self.matching(rule));
        raw.tolerate.iter().for_each(|rule| self.tolerate(rule, &matched));
        raw.waive.iter().for_each(|rule| self.waive(rule));
        raw.expect.iter().for_each(|rule| self.expect(rule));
    }

    /// Notes a rule and gives it its id; complains of one that has no reason, and of one that has ended.
    pub(super) fn head(&mut self, head: Head<'_>) -> RuleId {
        if head.reason.get_ref().trim().is_empty() {
            self.problems.push(head.reason.span(), "the rule has no reason", "say why it is right");
        }
        let until = head.until.and_then(|until| self.until(until));
        let id = self.rules.texts.len();
        if id == RULES_MAX {
            self.problems.push(head.reason.span(), format!("there are more than {RULES_MAX} rules"), "merge some");
        }
        let before = self.file.text.get(..head.reason.span().start).unwrap_or_default();
        self.rules.texts.push(RuleText {
            kind: head.kind,
            table: head.table.map(Into::into),
            fields: head.fields.iter().map(|field| field.get_ref().as_str().into()).collect(),
            says: head.says.into(),
            reason: head.reason.get_ref().trim().into(),
            author: head.author.map(Into::into),
            until,
            line: before.matches('\n').count() + 1,
        });
        RuleId(u16::try_from(id).unwrap_or(u16::MAX))
    }

    fn until(&mut self, until: &Spanned<Datetime>) -> Option<Date> {
        let written = until.get_ref();
        let day = match (written.time, written.offset) {
            (None, None) => written.to_string().parse::<Date>().ok(),
            _ => None,
        };
        match day {
            None => self.problems.push(until.span(), "this is no day", "write it as 2026-12-31"),
            Some(day) if day < self.today => self.problems.push(
                until.span(),
                format!("the rule ended on {day}"),
                "look at what it excused, and take it out or renew it",
            ),
            Some(_) => {}
        }
        day
    }

    fn known_table(&self, name: &str) -> Option<TargetTable> {
        let mut tables = self.migration.target_tables().iter();
        let index = tables.position(|table| *table.alias == *name || *table.name == *name)?;
        u16::try_from(index).ok().map(TargetTable)
    }

    /// A target table by name.
    pub(super) fn target(&mut self, name: &Name) -> Option<TargetTable> {
        let table = self.known_table(name.get_ref());
        if table.is_none() {
            let known = self.migration.target_tables().iter().map(|table| &*table.alias);
            self.problems.unknown(name.span(), "target table", name.get_ref(), known);
        }
        table
    }

    /// The pairs that a rule is about.
    pub(super) fn when(&mut self, when: Option<&Name>, table: TargetTable, matched: &[TargetTable]) -> When {
        let Some(when) = when else { return When::Always };
        match when.get_ref().as_str() {
            "foreign" => When::Foreign,
            "matched" => {
                if !matched.contains(&table) {
                    let message = "no `match` pairs rows of this table, so the rule would do nothing";
                    self.problems.push(when.span(), message, "add a [[match]] for the table, or take `when` out");
                }
                When::Matched
            }
            other => {
                self.problems.unknown(when.span(), "pairs", other, ["foreign", "matched"]);
                When::Always
            }
        }
    }

    fn matching(&mut self, raw: &raw::Match) {
        let Some(table) = self.target(&raw.table) else { return };
        let terms = |this: &mut Self, list: &Spanned<Vec<raw::Placed>>| -> Option<Vec<super::term::Term>> {
            if list.get_ref().is_empty() {
                this.problems.push(list.span(), "there is no term in this", "name at least one");
                return None;
            }
            let def = &this.migration.target_tables()[usize::from(table.0)];
            let columns = Columns { table: &def.name, columns: &def.columns };
            let terms: Vec<_> = list.get_ref().iter().map(|term| columns.term(term, &mut this.problems)).collect();
            terms.into_iter().map(|term| term.map(|(term, _)| term)).collect()
        };
        let (by, order) = (terms(self, &raw.by), terms(self, &raw.order));
        let rule = self.head(Head {
            kind: RuleKind::Match,
            table: Some(raw.table.get_ref()),
            fields: &[],
            says: "rows without a counterpart of their key are paired in order".to_owned(),
            reason: &raw.reason,
            author: raw.author.as_deref(),
            until: raw.until.as_ref(),
        });
        let (Some(by), Some(order)) = (by, order) else { return };
        let rules = &mut self.rules.tables[usize::from(table.0)];
        if rules.matching.is_some() {
            self.problems.push(raw.table.span(), "the table has another `match`", "keep one");
        }
        rules.matching = Some(Matching { rule, by, order });
    }

    fn waive(&mut self, raw: &raw::Waive) {
        let Some(table) = self.target(&raw.table) else { return };
        use super::table::Finding;
        let finding = match raw.finding.get_ref().as_str() {
            "changed" => Some(Finding::Changed),
            "missing" => Some(Finding::Missing),
            "extra" => Some(Finding::Extra),
            other => {
                self.problems.unknown(raw.finding.span(), "finding", other, ["changed", "missing", "extra"]);
                None
            }
        };
        if let (Some(Finding::Missing | Finding::Extra), Some(field)) = (finding, raw.fields.first()) {
            let message = "a row that one side lacks has no fields to compare";
            self.problems.push(field.span(), message, "take `fields` out; `where` says which rows");
        }
        if raw.author.get_ref().trim().is_empty() {
            self.problems.push(raw.author.span(), "the waiver has no author", "say who answers for it");
        }
        let places = self.places(table, &raw.fields).into_iter().map(|(place, _)| place).collect();
        let filter = raw.filter.as_ref().map(|filter| self.condition(table, filter));
        let rule = self.head(Head {
            kind: RuleKind::Waive,
            table: Some(raw.table.get_ref()),
            fields: &raw.fields,
            says: raw.finding.get_ref().clone(),
            reason: &raw.reason,
            author: Some(raw.author.get_ref()),
            until: Some(&raw.until),
        });
        let (Some(finding), Some(filter)) = (finding, filter.map_or(Some(None), |filter| filter.map(Some))) else {
            return;
        };
        self.rules.tables[usize::from(table.0)].waive.push(Waiver { rule, finding, places, filter });
    }
}

/// The rules of some kinds, without what is said about them: keys sorted, no comments, no layout.
fn normal_form(text: &str, kinds: &[&str]) -> String {
    let file = toml::from_str::<toml::Table>(text).unwrap_or_default();
    let mut out = String::new();
    for kind in kinds {
        for rule in file.get(*kind).and_then(toml::Value::as_array).into_iter().flatten() {
            out.push_str(kind);
            let mut rule = rule.clone();
            if let Some(members) = rule.as_table_mut() {
                SAYINGS.iter().for_each(|saying| drop(members.remove(*saying)));
            }
            normal(&rule, &mut out);
            out.push('\n');
        }
    }
    out
}

fn normal(value: &toml::Value, out: &mut String) {
    match value {
        toml::Value::Table(table) => {
            let mut members: Vec<_> = table.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            out.push('{');
            for (name, member) in members {
                write!(out, "{name:?}=").expect("writing to a string does not fail");
                normal(member, out);
                out.push(',');
            }
            out.push('}');
        }
        toml::Value::Array(items) => {
            out.push('[');
            for item in items {
                normal(item, out);
                out.push(',');
            }
            out.push(']');
        }
        toml::Value::String(text) => write!(out, "{text:?}").expect("writing to a string does not fail"),
        plain => write!(out, "{plain}").expect("writing to a string does not fail"),
    }
}
