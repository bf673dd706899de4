//! What single keywords of a definition's schema do.

use super::*;
use crate::kube::schema::{drop_nulls, prune, validate, validate_schema};

fn faults(schema: &Value, value: Value) -> Vec<String> {
    validate(schema, &value, "").iter().map(ToString::to_string).collect()
}

#[test]
fn lengths_and_numbers_are_limited() {
    let schema = json!({ "type": "object", "properties": {
        "name": { "type": "string", "minLength": 2, "maxLength": 3 },
        "size": { "type": "integer", "minimum": 1, "maximum": 500 },
        "list": { "type": "array", "maxItems": 1, "items": { "type": "string" } },
        "none": { "type": "string", "nullable": true },
        "port": { "x-kubernetes-int-or-string": true },
    } });
    let count = |value| faults(&schema, value).len();
    assert_eq!(count(json!({ "name": "abc", "size": 500, "list": ["a"], "none": null, "port": "http" })), 0);
    assert_eq!(count(json!({ "name": "a", "size": 0, "list": ["a", "b"] })), 3);
    assert_eq!(count(json!({ "name": "abcd", "size": 501, "list": [1] })), 3);
    assert_eq!(count(json!({ "name": null, "size": 1.5, "list": {} })), 3);
}

#[test]
fn a_pattern_matches_anywhere_unless_anchored() {
    let schema = json!({ "type": "object", "properties": {
        "loose": { "type": "string", "pattern": "b+" }, "strict": { "type": "string", "pattern": "^[a-zµ]+$" },
    } });
    assert_eq!(faults(&schema, json!({ "loose": "abbc", "strict": "aµ" })), Vec::<String>::new());
    let expected = [
        "loose: Invalid value: \"ac\": loose in body should match 'b+'",
        "strict: Invalid value: \"a b\": strict in body should match '^[a-zµ]+$'",
    ];
    assert_eq!(faults(&schema, json!({ "loose": "ac", "strict": "a b" })), expected);
    assert_eq!(faults(&schema, json!({ "strict": "a\n" })).len(), 1, "the end is the text's, not a line's");
}

#[test]
fn a_time_is_written_as_rfc_3339_has_it() {
    let schema = json!({ "type": "string", "format": "date-time" });
    for text in ["2023-12-15T05:18:47Z", "2023-12-15t05:18:47.123456z", "2024-02-29T23:59:59+08:00"] {
        assert_eq!(faults(&schema, text.into()), Vec::<String>::new());
    }
    for text in [
        "",
        "yesterday",
        "2023-12-15",
        "2023-12-15 05:18:47Z",
        "2023-12-15T05:18Z",
        "2023-12-15T05:18:47",
        "2023-12-15T05:18:47+0800",
        "2023-12-15T05:18:60Z",
        "2023-12-15T24:00:00Z",
        "2023-02-29T05:18:47Z",
        "20231215T05:18:47Z",
    ] {
        let why = format!(": Invalid value: {text:?}:  in body must be of type date-time: {text:?}");
        assert_eq!(faults(&schema, text.into()), [why]);
    }
}

#[test]
fn unknown_fields_are_kept_where_the_schema_says_so() {
    let schema = json!({ "type": "object", "properties": { "status": {
        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": { "known": { "type": "object", "properties": { "a": { "type": "string" } } } },
    } } });
    let mut object = json!({ "status": { "any": { "deep": [1] }, "known": { "a": "", "b": 1 } }, "other": 1 });
    assert_eq!(prune(&schema, &mut object), ["other", "status.known.b"], "the schema goes on below");
    assert_eq!(object, json!({ "status": { "any": { "deep": [1] }, "known": { "a": "" } } }));
}

#[test]
fn nulls_go_unless_they_are_allowed_or_have_a_default() {
    let schema = json!({ "type": "object", "properties": { "list": { "type": "array", "items": { "type": "object",
        "properties": {
            "plain": { "type": "string" },
            "nullable": { "type": "string", "nullable": true },
            "default": { "type": "string", "default": "x" },
        } } } } });
    let mut object = json!({ "list": [{ "plain": null, "nullable": null, "default": null, "unknown": null }] });
    drop_nulls(&schema, &mut object);
    assert_eq!(object, json!({ "list": [{ "nullable": null, "default": null, "unknown": null }] }));
}

#[test]
fn a_schema_with_rules_that_nobody_would_keep_is_refused() {
    let wrong = |schema: Value| -> Vec<String> {
        validate_schema(&json!({ "properties": { "a": schema } }), "s").iter().map(ToString::to_string).collect()
    };
    assert_eq!(wrong(json!({ "type": "string", "pattern": "^a$", "format": "date-time" })), Vec::<String>::new());
    assert_eq!(wrong(json!({ "not": {} })), ["s.a.not: Forbidden: podeip-sim does not act on this keyword"]);
    let format = "s.a.format: Forbidden: podeip-sim does not act on the format ipv4";
    assert_eq!(wrong(json!({ "items": { "format": "ipv4" } })), [format]);
    let pattern = wrong(json!({ "allOf": [{ "pattern": "(" }] })).remove(0);
    assert!(pattern.starts_with("s.a.pattern: Invalid value: \"(\": must be a valid regular expression"), "{pattern}");
}
