//! YAML as far as a spec needs it, to the same value as JSON.
//!
//! No aliases (a few of them unfold to gigabytes) and no depth without end.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// Deepest nesting: a spec has six.
const MAX_DEPTH: usize = 32;

/// A list or a mapping that is not complete yet.
enum Open {
    List(Vec<Value>),
    /// With the key whose value comes next.
    Map(Map<String, Value>, Option<String>),
}

/// The one document of `text`.
///
/// Errors: no YAML, an alias, a key that is no scalar or is there twice, too deep, no document.
pub(super) fn value(text: &str) -> Result<Value, String> {
    let (mut open, mut done) = (Vec::<Open>::new(), None);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| format!("it is no YAML: {e}"))?;
        let at = |why: &str| format!("line {}: {why}", span.start.line());
        let complete = match event {
            Event::Alias(_) => return Err(at("aliases are not read")),
            Event::Scalar(text, style, ..) => scalar(&text, style),
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= MAX_DEPTH => return Err(at("it is nested too deep")),
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => Value::Array(list),
                Some(Open::Map(map, _)) => Value::Object(map),
                None => return Err(at("it ends what has not begun")),
            },
            Event::DocumentStart(_) if done.is_some() => return Err(at("it has more than one document")),
            _ => continue,
        };
        match open.last_mut() {
            Some(inner) => put(inner, complete).map_err(|why| at(&why))?,
            None => done = Some(complete),
        }
    }
    done.ok_or_else(|| "it is empty".into())
}

fn put(open: &mut Open, value: Value) -> Result<(), String> {
    match open {
        Open::List(list) => list.push(value),
        Open::Map(map, key) => match key.take() {
            Some(key) if map.contains_key(&key) => return Err(format!("{key:?} is there twice")),
            Some(key) => drop(map.insert(key, value)),
            None => *key = Some(name(&value)?),
        },
    }
    Ok(())
}

fn name(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err("a key is no text".into()),
    }
}

/// YAML 1.2's core schema, without octal and floating numbers, which no spec has.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => text.parse::<i64>().map_or_else(|_| Value::String(text.to_owned()), |n| Value::Number(Number::from(n))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_mappings_and_scalars_become_what_json_would_say() {
        let text = "---\ncdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia0\n      major: 195\n    env: [A=b, 'c']\n  annotations: {}\nempty:\n";
        let told = json!({
            "cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "empty": null,
            "devices": [{"name": "0", "annotations": {}, "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0", "major": 195}], "env": ["A=b", "c"]}}],
        });
        assert_eq!(value(text).unwrap(), told);
    }

    #[test]
    fn what_could_unfold_or_mean_two_things_is_refused() {
        for bad in ["a: &x 1\nb: *x\n", "a: 1\na: 2\n", "? [a]\n: 1\n", "", "a: 1\n---\nb: 2\n", "a: [", &"[".repeat(100), "\t- a\n\tb: c"]
        {
            assert!(value(bad).is_err(), "accepted {bad:?}");
        }
        assert!(value(&format!("{}1{}", "[".repeat(30), "]".repeat(30))).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([-:?&*!|>%@`{}\\[\\],#'\" \n]|[a-c0-1]|---\n|\\PC){0,60}") {
            let _ = value(&text);
        }

        #[test]
        fn what_json_says_is_read_alike(list in proptest::collection::vec("[ -~]{0,12}", 0..6), n in any::<i32>()) {
            let json = json!({"list": list, "n": n});
            prop_assert_eq!(value(&json.to_string()).unwrap(), json);
        }
    }
}
