//! Changes to JSON schemas before llguidance compiles them, for what it refuses although it could be enforced, and for
//! what a lenient schema may leave out.

use serde_json::{json, Map, Value};

/// Keywords whose value is a schema or an array of schemas, and keywords whose value maps names to schemas.
const SCHEMAS: [&str; 13] = [
    "additionalItems", "additionalProperties", "allOf", "anyOf", "contains", "else", "if", "items", "not", "oneOf",
    "prefixItems", "propertyNames", "then",
];
const MAPS: [&str; 5] = ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];

/// Calls `change` for the schema and all schemas in it, the inner ones first.
fn change_all<E>(schema: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>) -> Result<(), E>) -> Result<(), E> {
    match schema {
        Value::Array(list) => list.iter_mut().try_for_each(|inner| change_all(inner, change)),
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if SCHEMAS.contains(&name.as_str()) {
                    change_all(value, change)?;
                } else if let (true, Value::Object(map)) = (MAPS.contains(&name.as_str()), value) {
                    map.values_mut().try_for_each(|inner| change_all(inner, change))?;
                }
            }
            change(fields)
        }
        _ => Ok(()),
    }
}

/// Removes the keywords that hold regular expressions. Returns whether there were any.
pub fn remove_patterns(schema: &mut Value) -> bool {
    let mut found = false;
    let _ = change_all(schema, &mut |fields| {
        for name in ["pattern", "patternProperties"] {
            found |= fields.shift_remove(name).is_some();
        }
        Ok::<(), ()>(())
    });
    found
}

pub enum Overlap {
    None,
    Some,
    Unknown,
}

fn is_scalar(schema: &Value) -> bool {
    let is_scalar_type = |kind: &Value| kind.as_str().is_some_and(|kind| kind != "object" && kind != "array");
    let is_scalar_value = |value: &Value| !value.is_object() && !value.is_array();
    schema.get("type").is_some_and(is_scalar_type)
        || schema.get("const").is_some_and(is_scalar_value)
        || schema.get("enum").and_then(Value::as_array).is_some_and(|values| values.iter().all(is_scalar_value))
}

/// Replaces `oneOf` by `anyOf` where its schemas are scalars and no value is valid for two of them. Fails if a value is.
/// `overlap` says whether a schema, which is an `allOf` of two, allows anything.
pub fn settle_one_of(schema: &mut Value, overlap: impl Fn(Value) -> Overlap) -> Result<(), ()> {
    const MOST: usize = 16; // the number of pairs grows with the square
    change_all(schema, &mut |fields| {
        let Some(list) = fields.get("oneOf").and_then(Value::as_array) else { return Ok(()) };
        if fields.contains_key("anyOf") || list.len() > MOST || !list.iter().all(is_scalar) {
            return Ok(());
        }
        let mut is_settled = true;
        for (i, first) in list.iter().enumerate() {
            for second in &list[..i] {
                match overlap(json!({ "allOf": [first, second] })) {
                    Overlap::None => {}
                    Overlap::Some => return Err(()),
                    Overlap::Unknown => is_settled = false,
                }
            }
        }
        if is_settled {
            let list = fields.shift_remove("oneOf").unwrap_or_default();
            fields.insert("anyOf".into(), list);
        }
        Ok(())
    })
}
