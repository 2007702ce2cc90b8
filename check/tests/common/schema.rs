//! A validator for the keywords of JSON Schema (draft 7) that the schema of SARIF uses. It refuses any other keyword,
//! so that nothing of a schema passes without being checked. `format` is an annotation in draft 7, and is not checked.

use regex::Regex;
use serde_json::Value;

/// The keywords that say nothing about a value.
const ANNOTATIONS: [&str; 5] = ["$schema", "$id", "$comment", "definitions", "format"];

/// What is wrong with a value, each with its path in the document.
pub(crate) fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    check(schema, schema, value, "", &mut errors);
    errors
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, errors: &mut Vec<String>) {
    let keywords = schema.as_object().expect("a schema is an object");
    if let Some(reference) = keywords.get("$ref") {
        let pointer = reference.as_str().and_then(|reference| reference.strip_prefix('#')).expect("a local reference");
        return check(root, root.pointer(pointer).expect("a definition"), value, at, errors);
    }
    let mut wrong = |what: String| errors.push(format!("{at}: {what}"));
    for (keyword, rule) in keywords {
        match keyword.as_str() {
            "type" if !is_type(rule, value) => wrong(format!("is not of type {rule}: {value}")),
            "enum" if !rule.as_array().unwrap().contains(value) => wrong(format!("is none of {rule}: {value}")),
            "required" => {
                for name in rule.as_array().unwrap().iter().filter_map(Value::as_str) {
                    if value.is_object() && value.get(name).is_none() {
                        wrong(format!("has no `{name}`"));
                    }
                }
            }
            "minItems" if value.as_array().is_some_and(|items| (items.len() as u64) < rule.as_u64().unwrap()) => {
                wrong(format!("has fewer than {rule} items"));
            }
            "uniqueItems" if value.as_array().is_some_and(|items| !is_unique(items)) => {
                wrong("has an item twice".to_owned());
            }
            "minimum" if value.as_f64().is_some_and(|number| number < rule.as_f64().unwrap()) => {
                wrong(format!("is less than {rule}: {value}"));
            }
            "maximum" if value.as_f64().is_some_and(|number| number > rule.as_f64().unwrap()) => {
                wrong(format!("is more than {rule}: {value}"));
            }
            "pattern" => {
                let pattern = Regex::new(rule.as_str().unwrap()).unwrap();
                if value.as_str().is_some_and(|text| !pattern.is_match(text)) {
                    wrong(format!("does not match {rule}: {value}"));
                }
            }
            _ => {}
        }
    }
    for (keyword, rule) in keywords {
        match keyword.as_str() {
            "properties" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    if let Some(rule) = rule.get(name) {
                        check(root, rule, member, &format!("{at}/{name}"), errors);
                    }
                }
            }
            "additionalProperties" => {
                let known = keywords.get("properties").and_then(Value::as_object);
                for (name, member) in value.as_object().into_iter().flatten() {
                    if known.is_some_and(|known| known.contains_key(name)) {
                        continue;
                    }
                    match rule {
                        Value::Bool(true) => {}
                        Value::Bool(false) => errors.push(format!("{at}: may have no `{name}`")),
                        rule => check(root, rule, member, &format!("{at}/{name}"), errors),
                    }
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{at}/{index}"), errors);
                }
            }
            "anyOf" | "oneOf" => {
                let fits = rule.as_array().unwrap().iter().filter(|rule| {
                    let mut found = Vec::new();
                    check(root, rule, value, at, &mut found);
                    found.is_empty()
                });
                let count = fits.count();
                if count == 0 || (keyword == "oneOf" && count > 1) {
                    errors.push(format!("{at}: fits {count} of the alternatives"));
                }
            }
            "type" | "enum" | "required" | "minItems" | "uniqueItems" | "minimum" | "maximum" | "pattern" => {}
            other => assert!(ANNOTATIONS.contains(&other), "this validator does not know `{other}`"),
        }
    }
}

fn is_type(rule: &Value, value: &Value) -> bool {
    match rule {
        Value::Array(types) => types.iter().any(|rule| is_type(rule, value)),
        rule => match rule.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "null" => value.is_null(),
            other => panic!("this validator does not know the type `{other}`"),
        },
    }
}

fn is_unique(items: &[Value]) -> bool {
    items.iter().enumerate().all(|(index, item)| !items[..index].contains(item))
}
