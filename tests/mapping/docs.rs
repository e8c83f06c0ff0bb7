//! The pages in `docs/`: what a stranger copies from them must be right.

use rehome::mapping::{Migration, SourceFile, Sources, run_cases};

use crate::support::root;

#[test]
fn the_worked_example_compiles_and_its_case_holds() {
    let page = std::fs::read_to_string(root("docs/mapping.md")).expect("the page");
    let (_, section) = page.split_once("\n## Write your own migration\n").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("a next section");
    let blocks: Vec<&str> =
        section.split("```toml\n").skip(1).filter_map(|block| Some(block.split_once("```")?.0)).collect();
    let [legacy, target, mapping] = blocks.as_slice() else { panic!("{} blocks", blocks.len()) };
    let sources = Sources {
        legacy: SourceFile::new("orders/legacy.toml", *legacy),
        mapping: SourceFile::new("orders/mapping.toml", *mapping),
        target: SourceFile::new("orders/target.toml", *target),
        cases: Vec::new(),
    };
    let migration = Migration::compile(&sources).unwrap_or_else(|error| panic!("{error}"));
    let results = run_cases(&migration);
    assert!(results.len() == 1 && results[0].failures.is_empty(), "{results:#?}");
    assert_eq!(migration.queries().len(), 1);
}

#[test]
fn every_block_of_toml_in_the_pages_is_toml() {
    let mut count = 0;
    for page in std::fs::read_dir(root("docs")).expect("the pages") {
        let page = page.expect("a page").path();
        if page.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&page).expect("text");
        for block in text.split("```toml\n").skip(1).filter_map(|block| Some(block.split_once("```")?.0)) {
            toml::from_str::<toml::Table>(block).unwrap_or_else(|error| panic!("{}: {error}\n{block}", page.display()));
            count += 1;
        }
    }
    assert!(count > 10, "{count} blocks");
}
