//! Which target tables need no look for two rows of one key, because no two can have it.

use super::plan::{Emit, Migration, RowMap};
use super::plan_place::Route;
use super::schema::{Kind, SourceTableDef};
use super::term::{Piece, Term};
use crate::event::Value;
use crate::target::TargetTable;

impl Migration {
    /// Whether no two parts can ever yield the same key of a target table, so that nobody need look for collisions.
    ///
    /// True only where row maps alone write the table, and the target key tells each row from all others of its map, and the
    /// maps from each other: it has every column of the source key, and in one of its columns the texts of no two maps can begin
    /// alike. And only where a row's key says which unit it belongs to: a row that moves takes its target key along, and the
    /// unit that it comes from must let go of it before the other writes it.
    pub fn keys_disjoint(&self, table: TargetTable) -> bool {
        let writes = |emit: &Emit| emit.table == table;
        let assembled = self.assembly.iter().any(|assembly| {
            let tools = assembly.tools.as_ref().is_some_and(|tools| writes(&tools.record));
            writes(&assembly.events) || writes(&assembly.modified) || tools
        });
        if assembled || self.groups.iter().any(|group| writes(&group.emit)) {
            return false;
        }
        let Some(target) = self.targets.get(usize::from(table.0)) else { return false };
        let maps: Vec<&RowMap> = self.maps.iter().filter(|map| writes(&map.emit)).collect();
        let apart = |a: &RowMap, b: &RowMap| {
            target.key.iter().any(|column| match (&a.emit.terms[*column], &b.emit.terms[*column]) {
                (Some(a), Some(b)) => begin_apart(a, b),
                _ => false,
            })
        };
        let pairs = || maps.iter().enumerate().flat_map(|(at, a)| maps[at + 1..].iter().map(move |b| (*a, *b)));
        let alone = |map: &&RowMap| {
            let source = &self.sources[usize::from(map.from.0)];
            let mut told = Vec::new();
            for term in target.key.iter().filter_map(|column| map.emit.terms[*column].as_ref()) {
                tells(term, source, &mut told);
            }
            let stays = |route: &Route| route.unit.told_by(&source.key);
            let stays = self.tables[usize::from(map.from.0)].route.as_ref().is_some_and(stays);
            stays && map.synthesise.is_none() && source.key.iter().all(|key| told.contains(key))
        };
        !maps.is_empty() && maps.iter().all(alone) && pairs().all(|(a, b)| apart(a, b))
    }
}

/// Adds the columns of which a term's value cannot be the same when theirs differ.
fn tells(term: &Term, source: &SourceTableDef, told: &mut Vec<usize>) {
    match term {
        Term::Column(column) => told.push(*column),
        Term::Uuid5(parts) => parts.iter().for_each(|part| tells_as_text(part, source, told)),
        Term::Native(of) => tells(of, source, told),
        Term::Template(pieces) => {
            let mut terms = pieces.iter().filter_map(|piece| match piece {
                Piece::Term(term) => Some(term),
                Piece::Text(_) => None,
            });
            match (terms.next(), terms.next(), pieces.as_slice()) {
                // One term between texts.
                (Some(term), None, _) => tells_as_text(term, source, told),
                // A number at the end, whose digits something else begins.
                (_, _, [.., Piece::Text(before), Piece::Term(Term::Column(column))])
                    if source.columns[*column].kind == Kind::Int
                        && !before.ends_with(|last: char| last.is_ascii_digit() || last == '-') =>
                {
                    told.push(*column);
                }
                _ => {}
            }
        }
        _ => {}
    }
}

/// Adds the columns of which a term's text cannot be the same when their values differ.
fn tells_as_text(term: &Term, source: &SourceTableDef, told: &mut Vec<usize>) {
    match term {
        // A JSON string has the text of what it holds; bytes and items have none.
        Term::Column(column) if matches!(source.columns[*column].kind, Kind::Json | Kind::Bytes | Kind::Native) => {}
        term => tells(term, source, told),
    }
}

/// Whether no text of one term begins as one of the other does.
fn begin_apart(a: &Term, b: &Term) -> bool {
    let (Some(a), Some(b)) = (beginnings(a), beginnings(b)) else { return false };
    a.iter().all(|a| b.iter().all(|b| !a.starts_with(*b) && !b.starts_with(*a)))
}

/// Texts with one of which every text of a term begins; `None` where nothing is known.
fn beginnings(term: &Term) -> Option<Vec<&str>> {
    match term {
        Term::Const(Value::Text(text)) => Some(vec![text]),
        Term::Native(of) => beginnings(of),
        Term::Template(pieces) => match pieces.first()? {
            Piece::Text(text) => Some(vec![text]),
            Piece::Term(_) => None,
        },
        Term::If(terms) => {
            let [_, then, otherwise] = &**terms;
            Some([beginnings(then)?, beginnings(otherwise)?].concat())
        }
        _ => None,
    }
}
