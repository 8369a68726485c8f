//! The tests that the threat model names are there.

use std::{fs, path::Path};

const THREAT_MODEL: &str = include_str!("../../docs/threat-model.md");

#[test]
fn the_tests_that_it_names_exist() {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite");
    let mut named = 0;
    for (file, test) in THREAT_MODEL.split('`').filter_map(|text| text.split_once("::")) {
        let source = fs::read_to_string(suite.join(file).with_extension("rs"));
        let source = source.unwrap_or_else(|error| panic!("{file}::{test}: {error}"));
        assert!(source.contains(&format!("#[test]\nfn {test}() {{")), "no {file}::{test}");
        named += 1;
    }
    assert!(named >= 70, "the threat model names {named} tests");
}
