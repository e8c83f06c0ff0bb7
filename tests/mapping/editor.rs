//! The schemas that editors read are those of the types that read the files.

use rehome::mapping::editor_schemas;
use rehome::rules::editor_schema;
use serde_json::Value;

use crate::support::root;

/// Set to 1, the test writes what it would compare.
const WRITE: &str = "REHOME_WRITE_SCHEMAS";

#[test]
fn schemas_for_editors_are_those_of_the_code() {
    for schema in editor_schemas().into_iter().chain([editor_schema()]) {
        let path = root("schemas").join(schema.name);
        if std::env::var_os(WRITE).is_some_and(|value| value == "1") {
            std::fs::write(&path, &schema.text).expect("the checkout can be written");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == schema.text, "{} is stale: run this test with {WRITE}=1", path.display());
    }
}

#[test]
fn schemas_know_the_members_of_their_files_and_no_others() {
    let all: Vec<(String, Value)> = editor_schemas()
        .into_iter()
        .chain([editor_schema()])
        .map(|schema| (schema.name.to_owned(), serde_json::from_str(&schema.text).expect("JSON")))
        .collect();
    let of = |name: &str| &all.iter().find(|(found, _)| found == name).expect("it is there").1;
    for (name, schema) in &all {
        assert_eq!(schema["additionalProperties"], Value::Bool(false), "{name}");
        let text = schema.to_string();
        let null = ["\"type\":\"null\"", ",\"null\"]"].iter().find(|null| text.contains(**null));
        assert_eq!(null, None, "TOML has no null: {name}");
    }
    let rules = of("rules.schema.json");
    for kind in ["scope", "retention", "normalise", "ignore", "match", "tolerate", "waive", "expect"] {
        assert_eq!(rules["properties"][kind]["type"], "array", "{kind}");
    }
    let waive = &rules["$defs"]["Waive"];
    let required = waive["required"].as_array().expect("a list");
    assert!(["author", "until", "reason"].iter().all(|name| required.iter().any(|found| found == name)), "{waive}");
    let map = &of("mapping.schema.json")["$defs"]["RowMap"];
    assert!(map["properties"]["attributes"].is_object() && map["oneOf"].is_array(), "{map}");
    assert!(of("legacy.schema.json")["properties"]["table"].is_object());
    assert!(of("target.schema.json")["properties"]["table"].is_object());
}
