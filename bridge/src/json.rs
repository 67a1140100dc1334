//! Reads JSON, and writes it as Python's json.dumps() does.

use std::fmt::Write;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use crate::print::{self, MAX_DEPTH};

fn number(number: &serde_json::Number) -> Value {
    let text = number.to_string();
    if let Ok(integer) = text.parse::<i64>() {
        return Value::from(integer);
    }
    if let Ok(integer) = text.parse::<i128>() {
        return Value::from(integer);
    }
    Value::from(text.parse::<f64>().unwrap_or(f64::NAN))
}

fn value_of(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(value) => Value::from(value),
        serde_json::Value::Number(value) => number(&value),
        serde_json::Value::String(value) => Value::from(value),
        serde_json::Value::Array(items) => Value::from(items.into_iter().map(value_of).collect::<Vec<_>>()),
        serde_json::Value::Object(fields) => {
            Value::from_pairs(fields.into_iter().map(|(key, value)| (Value::from(key), value_of(value))))
        }
    }
}

pub fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map(value_of).map_err(|error| error.to_string())
}

pub struct Style {
    pub ascii: bool,
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort_keys: bool,
}

struct Writer<'a> {
    out: String,
    state: &'a State<'a, 'a>,
    style: &'a Style,
}

fn not_serializable(value: &Value) -> Error {
    Error::new(ErrorKind::BadSerialization, format!("a value of the kind {} cannot be written as JSON", value.kind()))
}

impl Writer<'_> {
    fn text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                _ if c < ' ' || (self.style.ascii && !c.is_ascii() && !is_placeholder(c)) => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        write!(self.out, "\\u{unit:04x}").ok();
                    }
                }
                _ => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn number(&mut self, value: &Value) {
        if value.is_integer() {
            write!(self.out, "{value}").ok();
            return;
        }
        let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
        match number {
            _ if number.is_nan() => self.out.push_str("NaN"),
            _ if number.is_infinite() => self.out.push_str(if number > 0.0 { "Infinity" } else { "-Infinity" }),
            _ => self.out.push_str(&print::float(number)),
        }
    }

    fn key(&mut self, key: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.text(key.as_str().unwrap_or_default()),
            ValueKind::Bool | ValueKind::None | ValueKind::Number => {
                self.out.push('"');
                self.value(key, 0)?;
                self.out.push('"');
            }
            _ => return Err(not_serializable(key)),
        }
        Ok(())
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.style.indent {
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
    }

    fn container(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(print::too_deep());
        }
        let is_map = value.kind() == ValueKind::Map;
        let (open, close) = if is_map { ('{', '}') } else { ('[', ']') };
        let mut items = print::items(self.state, value)?.collect::<Result<Vec<_>, _>>()?;
        if is_map && self.style.sort_keys {
            items.sort();
        }
        self.out.push(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out.push_str(&self.style.item_separator);
            }
            self.new_line(depth + 1);
            if is_map {
                self.key(item)?;
                self.out.push_str(&self.style.key_separator);
                self.value(&value.get_item(item)?, depth + 1)?;
            } else {
                self.value(item, depth + 1)?;
            }
        }
        if !items.is_empty() {
            self.new_line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Map | ValueKind::Seq => self.container(value, depth)?,
            // A slice. An iterable without a length is a generator in Python, which cannot be written as JSON.
            ValueKind::Iterable if value.len().is_some() => self.container(value, depth)?,
            _ => return Err(not_serializable(value)),
        }
        Ok(())
    }
}

/// True for characters that serve as placeholders in a conversation until it has been rendered (cake_bridge.h).
fn is_placeholder(c: char) -> bool {
    matches!(c, '\u{FDD0}'..='\u{FDEF}' | '\u{10FE00}'..='\u{10FEFF}')
}

pub fn dump(state: &State, value: &Value, style: &Style) -> Result<String, Error> {
    let mut writer = Writer { out: String::new(), state, style };
    writer.value(value, 0)?;
    Ok(writer.out)
}
