//! Scenario files as they are meant: templates parsed, names of prototypes and columns resolved.

use std::collections::BTreeMap;

use super::raw::{self, Action as ItemAction, End, NewUnit, Which};
use super::template::{Node, Scope, Template, parse_table};
use super::value::Value;

/// Depth of groups in groups; deeper ones are a mistake in the file.
const DEPTH_MAX: usize = 8;

/// A table with a template for each column that is filled.
#[derive(Debug)]
pub(super) struct Prototype {
    /// Its name in the file.
    pub name: String,
    /// The table.
    pub table: String,
    /// Templates by column, in the order in which they are evaluated.
    pub columns: Vec<(String, Node)>,
}

/// One kind of unit.
#[derive(Debug)]
pub(super) struct Scenario {
    /// Its name.
    pub name: String,
    /// Variables, in order.
    pub variables: Vec<(String, Node)>,
    /// What makes its rows.
    pub steps: Vec<Step>,
}

/// One row or a group of steps, as often as `times` says.
#[derive(Debug)]
pub(super) struct Step {
    /// How often.
    pub times: Times,
    /// Variables of each time.
    pub variables: Vec<(String, Node)>,
    /// What.
    pub action: Action,
}

/// How often a step is done.
#[derive(Debug)]
pub(super) enum Times {
    /// Once for each item of a list variable.
    Each(String),
    /// So many times.
    Repeat(u32),
    /// Once, within the repetition that it may be a part of.
    Once,
}

/// What a step does.
#[derive(Debug)]
pub(super) enum Action {
    /// Makes a row of a prototype.
    Row {
        /// Index of the prototype.
        prototype: usize,
        /// Columns that differ from it, by position.
        set: BTreeMap<usize, Node>,
    },
    /// Runs steps.
    Group(Vec<Step>),
}

/// One kind of live transaction.
#[derive(Debug)]
pub(super) struct Live {
    /// Its name.
    pub name: String,
    /// Variables, in order.
    pub variables: Vec<(String, Node)>,
    /// Whether it writes a new unit first.
    pub unit: NewUnit,
    /// Its statements.
    pub sql: Vec<Template>,
    /// Its changes of the unit's items.
    pub items: Vec<ItemChange>,
    /// How it ends.
    pub end: End,
}

/// A change of items that a unit was made with.
#[derive(Debug)]
pub(super) struct ItemChange {
    /// Index of their prototype.
    pub prototype: usize,
    /// Which of them.
    pub which: Which,
    /// What is done to them.
    pub action: ItemAction,
    /// Attributes that differ, by position.
    pub set: BTreeMap<usize, Node>,
}

impl Prototype {
    /// Parses its templates and resolves its names.
    pub fn parse((name, raw): (String, raw::Prototype)) -> Result<Self, String> {
        let columns = parse_table(&raw.columns).map_err(|problem| format!("rows.{name}: {problem}"))?;
        Ok(Self { name, table: raw.table, columns })
    }

    /// A row, with some columns set otherwise.
    pub fn row(&self, set: &BTreeMap<usize, Node>, scope: &mut Scope<'_>) -> Result<Vec<Value>, String> {
        let mut row = Vec::with_capacity(self.columns.len());
        for (position, (name, node)) in self.columns.iter().enumerate() {
            let node = set.get(&position).unwrap_or(node);
            let wrong = |problem| format!("column `{name}` of `{}`: {problem}", self.name);
            row.push(node.evaluate(scope).map_err(wrong)?);
        }
        Ok(row)
    }
}

impl Scenario {
    /// Parses its templates and resolves its names.
    pub fn parse(raw: raw::Scenario, prototypes: &[Prototype]) -> Result<Self, String> {
        let within = |problem| format!("scenario `{}`: {problem}", raw.name);
        let variables = parse_table(&raw.variables).map_err(within)?;
        let steps = Step::parse_all(raw.steps, prototypes, 0).map_err(within)?;
        Ok(Self { variables, steps, name: raw.name })
    }
}

impl Step {
    fn parse_all(raw: Vec<raw::Step>, prototypes: &[Prototype], depth: usize) -> Result<Vec<Self>, String> {
        if depth > DEPTH_MAX {
            return Err(format!("groups are nested deeper than {DEPTH_MAX}"));
        }
        raw.into_iter().map(|step| Self::parse(step, prototypes, depth)).collect()
    }

    /// Parses its templates and resolves its names.
    pub fn parse(raw: raw::Step, prototypes: &[Prototype], depth: usize) -> Result<Self, String> {
        let times = match (raw.each, raw.repeat) {
            (Some(name), None) => Times::Each(name),
            (None, Some(times)) => Times::Repeat(times),
            (None, None) => Times::Once,
            (Some(_), Some(_)) => return Err("a step has `each` or `repeat`, not both".to_owned()),
        };
        let action = match (raw.row, raw.steps) {
            (Some(row), None) => Self::row(&row, &raw.set, prototypes)?,
            (None, Some(steps)) if raw.set.is_empty() => Action::Group(Self::parse_all(steps, prototypes, depth + 1)?),
            _ => return Err("a step has either `row`, perhaps with `set`, or `steps`".to_owned()),
        };
        Ok(Self { times, variables: parse_table(&raw.variables)?, action })
    }

    fn row(name: &str, set: &toml::Table, prototypes: &[Prototype]) -> Result<Action, String> {
        let (prototype, set) = columns_of(name, set, prototypes)?;
        Ok(Action::Row { prototype, set })
    }
}

/// Finds a prototype, and the positions of columns that are to differ from it.
fn columns_of(
    name: &str,
    set: &toml::Table,
    prototypes: &[Prototype],
) -> Result<(usize, BTreeMap<usize, Node>), String> {
    let index = prototypes.iter().position(|prototype| prototype.name == name);
    let index = index.ok_or_else(|| format!("there is no row prototype `{name}`"))?;
    let mut columns = BTreeMap::new();
    for (column, node) in parse_table(set)? {
        let position = prototypes[index].columns.iter().position(|(known, _)| *known == column);
        let position = position.ok_or_else(|| format!("the prototype `{name}` has no column `{column}`"))?;
        columns.insert(position, node);
    }
    Ok((index, columns))
}

impl ItemChange {
    fn parse(raw: &raw::ItemChange, prototypes: &[Prototype]) -> Result<Self, String> {
        let (prototype, set) = columns_of(&raw.row, &raw.set, prototypes)?;
        if raw.action == ItemAction::Delete && !set.is_empty() {
            return Err(format!("an item of `{}` is deleted, so nothing of it can be set", raw.row));
        }
        Ok(Self { prototype, which: raw.which, action: raw.action, set })
    }
}

impl Live {
    /// Parses its templates and resolves its names.
    pub fn parse(raw: raw::Live, prototypes: &[Prototype]) -> Result<Self, String> {
        let within = |problem| format!("live `{}`: {problem}", raw.name);
        let variables = parse_table(&raw.variables).map_err(within)?;
        let sql = raw.sql.iter().map(|text| Template::parse(text)).collect::<Result<_, _>>().map_err(within)?;
        let change = |change| ItemChange::parse(change, prototypes);
        let items = raw.items.iter().map(change).collect::<Result<Vec<_>, _>>().map_err(within)?;
        if !items.is_empty() && (!raw.sql.is_empty() || raw.end == End::Rollback) {
            return Err(within(
                "items are changed one by one: there are no statements and no rollback beside them".into(),
            ));
        }
        Ok(Self { name: raw.name, variables, unit: raw.unit, sql, items, end: raw.end })
    }
}
