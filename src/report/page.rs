//! A night as a page: one file that needs no script, no network and no other file, for screens of any width and for paper.
//!
//! Its policy forbids everything but its own style, which is named by its digest; so nothing that comes from data can load
//! or run anything, even if it were not escaped. The template lies beside this file. What fills it is worked out in
//! [`page_parts`](super::page_parts) and beside it, so that the template only places it.

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::reconcile::{Discrepancy, Grade, Summary, Verdict};

use super::folder::Night;
use super::page_books::{self as books, Equation, NightRow};
use super::page_checks::{self as checks, Check};
use super::page_parts::{self as parts, Causes, Fact, Item, Place, Reason, RuleRow};
use super::words;

/// The style; the page's policy lets in nothing else.
const STYLE: &str = include_str!("page.css");
/// Places of the cut that are seen at once; a stream may have hundreds of shards.
const PLACES_MAX: usize = 8;
/// Causes on the page.
const CAUSES_MAX: usize = 50;

/// What the page says of an earlier night.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Which.
    pub night: Night,
    /// Its verdict.
    pub verdict: Verdict,
    /// Confirmed and unsettled discrepancies by age, as in [`Details::ages`](crate::reconcile::Details::ages).
    pub ages: Vec<(u32, u64)>,
}

impl Past {
    /// What the page says of a night, by its summary.
    pub fn of(night: Night, summary: &Summary) -> Self {
        let ages = summary.details.ages.iter().map(|(age, count)| (*age, *count)).collect();
        Self { night, verdict: summary.verdict, ages }
    }
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    policy: String,
    style: &'static str,
    migration: String,
    tone: &'static str,
    mark: &'static str,
    verdict: &'static str,
    headline: String,
    night: String,
    took: String,
    grade: &'static str,
    observed: bool,
    why: Vec<Reason>,
    facts: Vec<Fact>,
    places: Vec<Place>,
    /// Places that are folded away.
    more_places: Vec<Place>,
    ids: Vec<(&'static str, &'a str)>,
    books: Vec<(&'static str, Vec<Equation>)>,
    tables: usize,
    /// How many tables do not add up, in words.
    unbalanced: Option<String>,
    causes: Causes,
    nights: Vec<NightRow>,
    rules: Vec<RuleRow>,
    unused: Vec<RuleRow>,
    checks: Vec<Check>,
    budget: Vec<(&'static str, String)>,
    items: Vec<Item>,
    items_note: Option<String>,
    hidden: bool,
}

/// Fills the page in: `sample` stands for all discrepancies, `before` are earlier nights, newest first.
///
/// # Errors
/// When the template cannot be filled in.
pub fn render(summary: &Summary, sample: &[Discrepancy], before: &[Past]) -> Result<String, askama::Error> {
    let digest = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!("default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'");
    let (tone, mark) = parts::verdict_look(summary.verdict);
    let ids = &summary.ids;
    let (unused, rules) = parts::rules(summary).into_iter().partition(|rule| rule.uses == "0");
    let sources = ("Legacy tables", summary.sources.iter().map(books::source).collect());
    let targets = ("Target tables", summary.targets.iter().map(books::target).collect());
    let books: Vec<(_, Vec<Equation>)> = vec![sources, targets];
    let unbalanced = books.iter().flat_map(|(_, book)| book).filter(|equation| !equation.balanced).count();
    let unbalanced = (unbalanced > 0).then(|| words::some(unbalanced as u64, "table does", "tables do"));
    let mut places = parts::places(summary);
    let more_places = places.split_off(places.len().min(PLACES_MAX));
    let page = Page {
        policy,
        style: STYLE,
        migration: words::plain(&summary.migration),
        tone,
        mark,
        verdict: words::verdict(summary.verdict),
        headline: words::headline(summary),
        night: words::time(summary.started),
        took: words::duration(summary.seconds),
        grade: words::grade(summary.grade),
        observed: summary.grade == Grade::Observed,
        why: parts::why(summary),
        facts: parts::facts(summary),
        places,
        more_places,
        ids: vec![("mapping", &ids.mapping), ("rules", &ids.rules), ("encoder", &ids.encoder), ("key", &ids.key)],
        tables: summary.sources.len() + summary.targets.len(),
        books,
        unbalanced,
        causes: parts::causes(summary, CAUSES_MAX),
        nights: books::nights(summary, before),
        rules,
        unused,
        checks: checks::checks(summary),
        budget: parts::budget(summary),
        items: sample.iter().map(parts::item).collect(),
        items_note: parts::items_note(summary, sample.len()),
        hidden: parts::hidden(sample),
    };
    page.render()
}
