//! Invariants as written, checked against the tables of both sides.

use super::compile::{Compiler, Head};
use super::compile_term::{Columns, Sort};
use super::expect::{Aggregate, Expect, Relation, Side, Table};
use super::raw::{self, Placed};
use super::ruleset::RuleKind;
use super::term::Term;
use crate::mapping::SourceTable;

impl Compiler<'_> {
    pub(super) fn expect(&mut self, raw: &raw::Expect) {
        let relation = match raw.is.get_ref().as_str() {
            "=" => Relation::Equal,
            "<=" => Relation::AtMost,
            ">=" => Relation::AtLeast,
            other => {
                self.problems.unknown(raw.is.span(), "relation", other, ["=", "<=", ">="]);
                Relation::Equal
            }
        };
        if raw.name.get_ref().trim().is_empty() {
            self.problems.push(raw.name.span(), "the invariant has no name", "say what must hold, in a sentence");
        }
        if raw.left.get_ref().is_empty() {
            self.problems.push(raw.left.span(), "nothing stands on the left", "add up the rows of at least one table");
        }
        let mut aggregates = Vec::new();
        let mut groups: Option<Vec<Sort>> = None;
        let sides = [(Side::Left, raw.left.get_ref()), (Side::Right, &raw.right)];
        for (side, raw) in sides.into_iter().flat_map(|(side, list)| list.iter().map(move |raw| (side, raw))) {
            let Some((aggregate, sorts)) = self.aggregate(side, raw) else { continue };
            match &groups {
                None => groups = Some(sorts),
                Some(first) if first.len() != sorts.len() => {
                    let message = format!("this groups by {} values, another sum by {}", sorts.len(), first.len());
                    self.problems.push(raw.add.span(), message, "group all sums of an invariant by the same things");
                }
                Some(first) => {
                    if let Some((_, by)) =
                        first.iter().zip(&sorts).zip(&raw.by).find(|((one, other), _)| !one.meets(**other))
                    {
                        let message = "this is of another kind than the same value of another sum's group";
                        self.problems.push(by.span(), message, "no row would meet its counterpart: use { number = … }");
                    }
                }
            }
            aggregates.push(aggregate);
        }
        let table = aggregates.iter().find_map(|aggregate| match aggregate.table {
            Table::Target(table) => Some(&*self.migration.target_tables()[usize::from(table.0)].name),
            Table::Legacy(_) => None,
        });
        let table = table.map(str::to_owned);
        let rule = self.head(Head {
            kind: RuleKind::Expect,
            table: table.as_deref(),
            fields: &[],
            says: raw.name.get_ref().clone(),
            reason: &raw.reason,
            author: raw.author.as_deref(),
            until: raw.until.as_ref(),
        });
        self.rules.expects.push(Expect { rule, name: raw.name.get_ref().trim().into(), relation, aggregates });
    }

    fn aggregate(&mut self, side: Side, raw: &raw::Aggregate) -> Option<(Aggregate, Vec<Sort>)> {
        let (table, columns) = match (&raw.legacy, &raw.target) {
            (Some(alias), None) => {
                let tables = self.migration.source_tables();
                let Some(index) = tables.iter().position(|table| *table.alias == **alias.get_ref()) else {
                    let known = tables.iter().map(|table| &*table.alias);
                    self.problems.unknown(alias.span(), "legacy table", alias.get_ref(), known);
                    return None;
                };
                let table = &tables[index];
                let columns = Columns { table: &table.alias, columns: &table.columns };
                (Table::Legacy(SourceTable(u16::try_from(index).ok()?)), columns)
            }
            (None, Some(name)) => {
                let table = self.target(name)?;
                let def = &self.migration.target_tables()[usize::from(table.0)];
                (Table::Target(table), Columns { table: &def.name, columns: &def.columns })
            }
            _ => {
                let fix = "give exactly one of: legacy = \"TABLE\", target = \"TABLE\"";
                self.problems.push(raw.add.span(), "this does not say whose rows are added up", fix);
                return None;
            }
        };
        let problems = &mut self.problems;
        let filter = raw.filter.as_ref().map(|filter| columns.condition(filter, problems));
        let mut terms = |list: &[Placed]| -> Vec<Option<(Term, Sort)>> {
            list.iter().map(|term| columns.term(term, problems)).collect()
        };
        let (by, once) = (terms(&raw.by), terms(&raw.once));
        let add = columns.term_of(&raw.add, Sort::Number, problems);
        let (by, sorts) = by.into_iter().collect::<Option<Vec<_>>>()?.into_iter().unzip();
        let once = once.into_iter().map(|term| term.map(|(term, _)| term)).collect::<Option<_>>()?;
        let filter = match filter {
            None => None,
            Some(filter) => Some(filter?),
        };
        Some((Aggregate { side, table, filter, by, add: add?, once }, sorts))
    }
}
