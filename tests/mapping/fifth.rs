//! A migration that no code was written for, with every piece of the language.

use rehome::mapping::Migration;

use crate::support::{assert_examples_hold, root};

#[test]
fn every_example_holds() {
    let migration = Migration::load(&root("tests/data/fifth")).unwrap_or_else(|error| panic!("{error}"));
    assert_examples_hold(&migration, 2);
}
