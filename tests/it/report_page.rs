//! The page of a report in a browser: nothing is complained about, nothing is asked for, nothing is too wide, on a phone and
//! a desk, light and dark.
//!
//! With REHOME_PICTURES=FOLDER the pages, their summaries and pictures of them are left there, for people.

use std::fs;
use std::path::{Path, PathBuf};

use rehome::reconcile::{
    Blame, Class, Cover, Cut, Digests, Discrepancy, Field, FieldKind, Ids, Kind, RuleKind, Shown, Side, State, Summary,
    Verdict, Writer, discrepancy_id,
};
use rehome::report::{Contents, Written};

use crate::support::browser::{Browser, Look, Seen};
use crate::support::nights::{
    begin, canary, discrepancy, expect, ledger, matching, rule, source, target, with_verdict, write, write_with,
};

const LOOKS: [Look; 4] = [
    Look { width: 360, scheme: "light" },
    Look { width: 360, scheme: "dark" },
    Look { width: 1280, scheme: "light" },
    Look { width: 1280, scheme: "dark" },
];

/// What the pages are made of, by name.
fn fixtures(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    let page = |written: Written| written.folder.join("report.html");
    let at = |name: &str| folder.join(name);
    vec![
        ("match", page(write(&at("match"), matching(0), []))),
        ("mismatch", page(many_causes(&at("mismatch")))),
        ("incomplete", page(incomplete(&at("incomplete")))),
        ("empty", page(write(&at("empty"), empty(), []))),
        ("many", page(ten_thousand(&at("many")))),
        ("long", page(long(&at("long")))),
        ("rtl", page(right_to_left(&at("rtl")))),
    ]
}

fn empty() -> Summary {
    let mut summary = matching(0);
    summary.cut = Cut::default();
    summary.ids = Ids::default();
    summary.sources.clear();
    summary.targets.clear();
    summary.hops.clear();
    summary.rules.clear();
    summary.expects.clear();
    summary.canaries.clear();
    summary.ledger.clear();
    summary
}

fn mismatch(night: i64, proven: u64) -> Summary {
    let why = [(
        "confirmed",
        "target rows differ from what the mapping makes of the log, and nothing was on its way",
        proven,
    )];
    with_verdict(matching(night), Verdict::Mismatch, &why)
}

/// Sixty causes of several kinds, after a month of nights.
fn many_causes(reports: &Path) -> Written {
    for night in 0..33 {
        let found = (0..(night * 7 % 40) as u64).map(|number| discrepancy(number % (1 + night as u64)));
        let summary = match night % 11 {
            3 => with_verdict(matching(night), Verdict::Incomplete, &[("throttled", "the scan was cut off", 1)]),
            7 => matching(night),
            _ => mismatch(night, 12),
        };
        write(reports, summary, found.take(if night % 11 == 7 { 0 } else { 100 }));
    }
    let mut summary = mismatch(33, 1_062);
    let classes = [(Class::Matched, 1_190_498), (Class::Tolerated, 12), (Class::Changed, 1_700), (Class::Missing, 118)];
    summary.targets[0] = target("orders", &classes, &[(Class::Extra, 12), (Class::Unsettled, 3)]);
    summary.expects.push(expect("every order has a customer", 1_192_328, 118));
    let states = [State::Confirmed, State::Confirmed, State::Confirmed, State::Unsettled, State::Waived];
    let kinds = [Kind::Changed, Kind::Missing, Kind::Extra, Kind::Foreign];
    let blames = [Blame::NotApplied, Blame::NotCaptured, Blame::Foreign, Blame::MappingChanged, Blame::Unknown];
    let found =
        (0..60u64).flat_map(|cause| (0..cause + 1).map(move |number| (cause, number))).map(|(cause, number)| {
            let index = cause as usize;
            let mut found = discrepancy(number);
            found.state = states[index % states.len()];
            found.kind = kinds[index % kinds.len()];
            found.blame = blames[index % blames.len()];
            found.fields[0].field = format!("column_{cause}.path[3]");
            if found.kind != Kind::Changed {
                found.fields.clear();
                found.table = format!("table_{cause}");
            }
            found.writer = if found.kind == Kind::Foreign { Writer::Foreign } else { Writer::Rehome };
            found
        });
    write(reports, summary, found)
}

fn incomplete(reports: &Path) -> Written {
    let why = [
        ("gap", "ranges of a legacy table were not read", 1),
        ("recall", "planted faults were not found, so what was compared is not known", 3),
        ("unsettled", "rows kept changing while they were judged", 12),
    ];
    let mut summary = with_verdict(matching(0), Verdict::Incomplete, &why);
    summary.ledger.push(ledger(Side::Source, "legacy_lines", Cover::Gap));
    summary.canaries.push(canary("one digit", 8, 5));
    summary.hops[1].rows_out -= 1;
    summary.hops[1].digests = Digests::Different;
    summary.sources[1] = source("legacy_lines", 8_113_902, &[], &[("not JSON", 7)]);
    summary.sources[1].mapped -= 3;
    summary.sources[1].counted = Some(8_113_905);
    write(reports, summary, (0..12).map(|number| Discrepancy { state: State::Unsettled, ..discrepancy(number) }))
}

fn ten_thousand(reports: &Path) -> Written {
    write(reports, mismatch(0, 10_000), (0..10_000).map(discrepancy))
}

fn long(reports: &Path) -> Written {
    let word = |length: usize| "Wörterbuch0123456789".chars().cycle().take(length).collect::<String>();
    let mut summary = mismatch(0, 2);
    summary.migration = word(60);
    summary.why[0].sentence = word(300);
    summary.targets.push(target(&word(300), &[(Class::Matched, 1)], &[]));
    summary.sources.push(source(&word(300), 5, &[(&word(200), 5)], &[]));
    summary.rules.push(rule(&word(200), RuleKind::Tolerate, Some(&word(200)), 3, Some(&word(100))));
    summary.cut.sources[0].position = word(500);
    summary.cut.snapshots[0].name = word(500);
    summary.ids.mapping = word(200);
    summary.expects[0].first = vec![word(4_000)];
    summary.canaries[0].class = word(200);
    let found = (0..2).map(|number| Discrepancy {
        key: word(4_000 + number),
        unit: Some(word(2_000)),
        id: word(64),
        table: word(300),
        fields: vec![Field {
            field: word(500),
            kind: FieldKind::Changed,
            expected: Some(Shown::Value(word(9_000))),
            actual: Some(Shown::Value("<script>alert(1)</script><img src=x onerror=alert(2)>".to_owned())),
            rule: Some(word(100)),
        }],
        ..discrepancy(number as u64)
    });
    write_with(reports, summary, found, Contents::Revealed, None)
}

fn right_to_left(reports: &Path) -> Written {
    let mut summary = mismatch(0, 2);
    summary.targets.push(target("הזמנות", &[(Class::Matched, 4)], &[]));
    summary.rules.push(rule("عملة", RuleKind::Tolerate, Some("المجموع"), 3, None));
    let found = ["مفتاح-١٢٣ abc", "a\u{202e}cba-הזמנה"].into_iter().enumerate().map(|(number, key)| Discrepancy {
        id: discrepancy_id(None, "הזמנות", key, Kind::Changed),
        key: key.to_owned(),
        table: "הזמנות".to_owned(),
        fields: vec![Field {
            field: "المجموع".to_owned(),
            kind: FieldKind::Changed,
            expected: Some(Shown::Value("مرحبا بالعالم (12)".to_owned())),
            actual: Some(Shown::Value("hello שלום 12".to_owned())),
            rule: None,
        }],
        ..discrepancy(number as u64)
    });
    write_with(reports, summary, found, Contents::Revealed, None)
}

#[test]
fn pages_fit_every_screen_and_the_browser_has_nothing_to_complain_about() {
    let folder = tempfile::tempdir().expect("a folder");
    let pictures = std::env::var_os("REHOME_PICTURES").map(PathBuf::from);
    let mut browser = Browser::start();
    for (name, page) in fixtures(folder.path()) {
        for look in LOOKS {
            let seen = browser.look(&page, look);
            assert_eq!(seen, Seen::default(), "{name} {look:?}");
            let Some(pictures) = &pictures else { continue };
            browser.unfold(false);
            let picture = browser.picture(look, if look.width < 600 { 3_000 } else { 2_400 });
            fs::write(pictures.join(format!("{name}-{}-{}.png", look.width, look.scheme)), picture).expect("a picture");
        }
        let paper = browser.paper();
        assert!(paper.starts_with(b"%PDF"));
        if let Some(pictures) = &pictures {
            fs::write(pictures.join(format!("{name}.pdf")), paper).expect("a document");
            fs::copy(&page, pictures.join(format!("{name}.html"))).expect("a page");
            fs::copy(page.with_file_name("summary.json"), pictures.join(format!("{name}.json"))).expect("a summary");
        }
    }
}

#[test]
fn what_the_browser_would_complain_about_is_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = write(&folder.path().join("match"), matching(0), []).folder.join("report.html");
    let good = fs::read_to_string(good).expect("a page");
    let mut browser = Browser::start();
    let mut look = |text: &str| {
        let path = folder.path().join("changed.html");
        fs::write(&path, good.replace("</main>", &format!("{text}</main>"))).expect("a page");
        browser.look(&path, LOOKS[0])
    };
    assert_eq!(look("<p>well</p>"), Seen::default());
    assert!(!look("<svg width=\"2000\" height=\"2\"></svg>").overflowing.is_empty());
    // The page's policy forbids each of these, and the browser says so.
    for forbidden in
        ["<script>1</script>", "<p style=\"color:red\">x</p>", "<style>p{color:red}</style>", "<img src=\"x.png\">"]
    {
        let seen = look(forbidden);
        assert!(!seen.errors.is_empty(), "{forbidden}: {seen:?}");
    }
}

#[test]
fn ten_thousand_discrepancies_are_counted_and_some_of_each_cause_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let summary = mismatch(0, 10_001);
    let rare =
        Discrepancy { kind: Kind::Missing, fields: Vec::new(), key: "rare-one".to_owned(), ..discrepancy(10_000) };
    let written = write(folder.path(), summary, (0..10_000).map(discrepancy).chain([rare]));
    let page = fs::read_to_string(written.folder.join("report.html")).expect("a page");
    let items = page.matches("<details class=\"item").count();
    assert!((2..=300).contains(&items), "{items}");
    assert!(page.contains("rare-one"), "the smaller cause is not hidden by the larger");
    assert!(page.contains("10,001 discrepancies are proven"));
    assert!(page.contains(&format!("{items} of 10,001 are shown here")));
    assert!(page.len() < 1 << 20, "{}", page.len());
    assert_eq!(written.summary.details.found, 10_001);
    assert_eq!(written.summary.causes.iter().map(|cause| cause.count).collect::<Vec<_>>(), [10_000, 1]);
    assert_eq!(written.summary.started, begin(0));
}
