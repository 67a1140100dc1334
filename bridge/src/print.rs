//! Prints values as Python does.

use std::fmt::{self, Write};

use minijinja::value::{ValueKind, Value};
use minijinja::{Error, ErrorKind, State};

/// Max nesting depth of a value that is printed.
pub const MAX_DEPTH: usize = 200;

pub fn too_deep() -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("lists and maps nested more than {MAX_DEPTH} deep"))
}

/// The items of a list or the keys of a map. Each one costs fuel, because a list may be repeated a million times.
pub fn items<'a>(state: &'a State, value: &Value) -> Result<impl Iterator<Item = Result<Value, Error>> + 'a, Error> {
    Ok(value.try_iter()?.map(|item| state.consume_fuel(1).map(|()| item)))
}

fn write_failed(_: fmt::Error) -> Error {
    Error::new(ErrorKind::WriteFailure, "the output cannot be written")
}

/// The shortest text from which the number can be read back, with an exponent if Python prints one.
pub fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// True if Python's repr() escapes the character. Those below U+0020 are not included.
fn is_unprintable(c: char) -> bool {
    matches!(u32::from(c),
        0x7F..=0xA0 | 0xAD | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x890..=0x891 | 0x8E2 | 0x1680 | 0x180E
        | 0x2000..=0x200F | 0x2028..=0x202F | 0x205F..=0x206F | 0x3000 | 0xE000..=0xF8FF | 0xFEFF | 0xFFF9..=0xFFFB
        | 0x110BD | 0x110CD | 0x13430..=0x1343F | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE0001 | 0xE0020..=0xE007F
        | 0xF0000..=0xFFFFD)
}

fn quoted(out: &mut dyn Write, text: &str) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.write_char(quote)?;
    for c in text.chars() {
        match c {
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            _ if c == quote => write!(out, "\\{c}")?,
            _ if c < ' ' || is_unprintable(c) => match u32::from(c) {
                code @ 0..=0xFF => write!(out, "\\x{code:02x}")?,
                code @ 0x100..=0xFFFF => write!(out, "\\u{code:04x}")?,
                code => write!(out, "\\U{code:08x}")?,
            },
            _ => out.write_char(c)?,
        }
    }
    out.write_char(quote)
}

/// Prints a value as repr() does.
fn print_inner(out: &mut dyn Write, state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    match value.kind() {
        ValueKind::String => quoted(out, value.as_str().unwrap_or_default()).map_err(write_failed),
        ValueKind::Undefined => out.write_str("Undefined").map_err(write_failed),
        ValueKind::Map | ValueKind::Seq | ValueKind::Iterable => print_container(out, state, value, depth),
        _ => print_plain(out, value),
    }
}

fn print_plain(out: &mut dyn Write, value: &Value) -> Result<(), Error> {
    let float_value = if value.kind() == ValueKind::Number && !value.is_integer() {
        f64::try_from(value.clone()).ok()
    } else {
        None
    };
    match float_value {
        Some(number) => out.write_str(&float(number)),
        None => write!(out, "{value}"),
    }
    .map_err(write_failed)
}

fn print_container(out: &mut dyn Write, state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    let is_map = value.kind() == ValueKind::Map;
    let (open, close) = if is_map {
        ("{", "}")
    } else if value.is_tuple() {
        ("(", ")")
    } else {
        ("[", "]")
    };
    out.write_str(open).map_err(write_failed)?;
    let mut n = 0;
    for item in items(state, value)? {
        let item = item?;
        if n > 0 {
            out.write_str(", ").map_err(write_failed)?;
        }
        print_inner(out, state, &item, depth + 1)?;
        if is_map {
            out.write_str(": ").map_err(write_failed)?;
            print_inner(out, state, &value.get_item(&item)?, depth + 1)?;
        }
        n += 1;
    }
    if n == 1 && value.is_tuple() {
        out.write_str(",").map_err(write_failed)?;
    }
    out.write_str(close).map_err(write_failed)
}

/// Prints a value as str() does, and nothing if it is undefined.
pub fn print(out: &mut dyn Write, state: &State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(()),
        ValueKind::String => out.write_str(value.as_str().unwrap_or_default()).map_err(write_failed),
        ValueKind::Map | ValueKind::Seq | ValueKind::Iterable => print_container(out, state, value, 0),
        _ => print_plain(out, value),
    }
}

pub fn to_python(state: &State, value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    print(&mut text, state, value)?;
    Ok(text)
}
