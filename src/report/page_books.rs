//! What fills the page with pictures: equations of tables, and nights, with their bars.

use crate::reconcile::{SourceCount, Summary, Tally, TargetCount};

use super::folder::{self, Night};
use super::page::Past;
use super::page_parts::verdict_look;
use super::words::{self, Term, Tone, number, plain};

/// A table's equations.
pub struct Equation {
    /// The table.
    pub table: String,
    /// Everything below holds.
    pub balanced: bool,
    /// One equation for each count.
    pub sides: Vec<SideEquation>,
    /// What the store itself counted.
    pub counted: Option<String>,
    /// Classes of pairs are as many on both sides.
    pub paired: bool,
}

/// One equation, with a bar of its parts.
pub struct SideEquation {
    /// Which rows.
    pub name: &'static str,
    /// How many.
    pub total: String,
    /// What became of them.
    pub sum: String,
    /// Total and sum agree.
    pub holds: bool,
    /// The sum as a picture.
    pub bar: Vec<Stripe>,
}

/// A part of a bar, in percent of its length.
pub struct Stripe {
    /// Where it begins.
    pub x: String,
    /// How long it is.
    pub width: String,
    /// Its class in the style.
    pub look: &'static str,
}

/// A night of the chart.
pub struct NightRow {
    /// Its begin.
    pub name: String,
    /// Address of its page; none for the present one.
    pub link: Option<String>,
    /// How to take its verdict.
    pub tone: &'static str,
    /// Its verdict as a sign.
    pub mark: &'static str,
    /// Its verdict.
    pub verdict: &'static str,
    /// Discrepancies confirmed or unsettled.
    pub total: String,
    /// The same by age.
    pub bar: Vec<Stripe>,
    /// The bar in words.
    pub words: String,
}

/// The equation of a legacy table.
pub fn source(count: &SourceCount) -> Equation {
    let terms = words::source_terms(count);
    let sum: u64 = terms.iter().map(|term| term.count).sum();
    Equation {
        table: plain(&count.table),
        balanced: count.balanced(),
        sides: vec![SideEquation {
            name: "read",
            total: number(count.read),
            sum: words::sum(&terms),
            holds: sum == count.read,
            bar: bar(&terms),
        }],
        counted: count.counted.filter(|counted| *counted != count.read).map(number),
        paired: true,
    }
}

/// The equations of a target table.
pub fn target(count: &TargetCount) -> Equation {
    let side = |name, tally: &Tally| {
        let terms = words::tally_terms(tally);
        SideEquation {
            name,
            total: number(tally.rows),
            sum: words::sum(&terms),
            holds: tally.balanced(),
            bar: bar(&terms),
        }
    };
    Equation {
        table: plain(&count.table),
        balanced: count.balanced(),
        sides: vec![side("expected", &count.expected), side("there", &count.read)],
        counted: count.counted.filter(|counted| *counted != count.read.rows).map(number),
        paired: count.paired(),
    }
}

/// Terms as stripes: neighbours of one tone as one, and one that is there is seen.
fn bar(terms: &[Term]) -> Vec<Stripe> {
    let tones = [Tone::Good, Tone::Known, Tone::Open, Tone::Bad];
    let counts = tones.map(|tone| terms.iter().filter(|term| term.tone == tone).map(|term| term.count).sum());
    let all = counts.iter().sum();
    stripes(&counts.map(|count: u64| count), &tones.map(Tone::name), all)
}

/// Stripes of a bar whose whole length stands for `whole`.
fn stripes(counts: &[u64], looks: &[&'static str], whole: u64) -> Vec<Stripe> {
    /// A stripe at least so long, in thousandths, is seen.
    const SEEN: u64 = 12;
    let length = |count: u64| match count {
        0 => 0,
        // Divided in 128 bits, because counts times a thousand may not fit.
        count => u64::try_from(u128::from(count) * 1_000 / u128::from(whole.max(1))).unwrap_or(1_000).max(SEEN),
    };
    let lengths: Vec<u64> = counts.iter().map(|count| length(*count)).collect();
    // What the short ones were given is taken from the longest.
    let over = lengths.iter().sum::<u64>().saturating_sub(1_000);
    let longest = lengths.iter().copied().max().unwrap_or_default();
    let tenths = |thousandths: u64| format!("{}.{}", thousandths / 10, thousandths % 10);
    let (mut at, mut taken, mut stripes) = (0, false, Vec::new());
    for (mut length, look) in lengths.into_iter().zip(looks) {
        if length == longest && !taken {
            (length, taken) = (length.saturating_sub(over), true);
        }
        if length > 0 {
            stripes.push(Stripe { x: tenths(at), width: tenths(length), look });
            at += length;
        }
    }
    stripes
}

/// The chart: the present night first.
pub fn nights(summary: &Summary, before: &[Past]) -> Vec<NightRow> {
    let present = Past::of(Night::of(summary.started), summary);
    let all: Vec<(&Past, bool)> =
        std::iter::once((&present, true)).chain(before.iter().map(|past| (past, false))).collect();
    let total = |past: &Past| past.ages.iter().map(|(_, count)| count).sum::<u64>();
    let most = all.iter().map(|(past, _)| total(past)).max().unwrap_or_default();
    all.into_iter().map(|(past, is_present)| night(past, is_present, most, total(past))).collect()
}

fn night(past: &Past, is_present: bool, most: u64, total: u64) -> NightRow {
    let ages = |range: std::ops::RangeInclusive<u32>| {
        past.ages.iter().filter(|(age, _)| range.contains(age)).map(|(_, count)| count).sum::<u64>()
    };
    let counts = [ages(7..=u32::MAX), ages(1..=6), ages(0..=0)];
    let (tone, mark) = verdict_look(past.verdict);
    let [old, some, new] = counts.map(number);
    NightRow {
        name: past.night.minute(),
        link: (!is_present).then(|| format!("../{}/{}", past.night, folder::PAGE)),
        tone,
        mark,
        verdict: words::verdict(past.verdict),
        total: number(total),
        bar: stripes(&counts, &["old", "some", "new"], most),
        words: format!("{new} new, {some} of 1 to 6 nights, {old} older"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widths(counts: &[u64], whole: u64) -> Vec<(String, String)> {
        let looks = ["a", "b", "c", "d"];
        stripes(counts, &looks[..counts.len()], whole).into_iter().map(|stripe| (stripe.x, stripe.width)).collect()
    }

    #[test]
    fn one_row_among_millions_is_seen_and_the_bar_stays_within_its_length() {
        let pair = |x: &str, width: &str| (x.to_owned(), width.to_owned());
        assert_eq!(widths(&[1, 0, 1], 2), [pair("0.0", "50.0"), pair("50.0", "50.0")]);
        assert_eq!(widths(&[9_999_999, 1], 10_000_000), [pair("0.0", "98.8"), pair("98.8", "1.2")]);
        assert_eq!(widths(&[u64::MAX / 2, u64::MAX / 2], u64::MAX), [pair("0.0", "49.9"), pair("49.9", "49.9")]);
        assert_eq!(widths(&[0, 0], 0), []);
    }
}
