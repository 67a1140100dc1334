//! Methods of Python's strings, lists and dictionaries: those in pycompat of minijinja-contrib, and the ones it lacks.

use minijinja::value::{from_args, Kwargs, Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::filters::charge;
use crate::print;

fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn begin_of<'a>(text: &'a str, chars: Option<&str>) -> &'a str {
    match chars {
        Some(chars) => text.trim_start_matches(|c| chars.contains(c)),
        None => text.trim_start_matches(is_space),
    }
}

fn end_of<'a>(text: &'a str, chars: Option<&str>) -> &'a str {
    match chars {
        Some(chars) => text.trim_end_matches(|c| chars.contains(c)),
        None => text.trim_end_matches(is_space),
    }
}

pub fn strip<'a>(text: &'a str, chars: Option<&str>) -> &'a str {
    begin_of(end_of(text, chars), chars)
}

fn wrong_value(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// The arguments of split() and rsplit(): the separator, and the max number of splits.
fn split_arguments(args: &[Value]) -> Result<(Option<String>, usize), Error> {
    let (separator, max, kwargs): (Option<Value>, Option<Value>, Kwargs) = from_args(args)?;
    let separator = match separator {
        Some(value) => Some(value),
        None => kwargs.get::<Option<Value>>("sep")?,
    };
    let max = match max {
        Some(value) => Some(value),
        None => kwargs.get::<Option<Value>>("maxsplit")?,
    };
    kwargs.assert_all_used()?;
    let separator = match separator.filter(|value| !value.is_none()) {
        None => None,
        Some(value) => Some(value.as_str().ok_or_else(|| wrong_value("split: the separator must be a string"))?.to_string()),
    };
    if separator.as_deref() == Some("") {
        return Err(wrong_value("split: an empty separator"));
    }
    let max = max.map(i64::try_from).transpose()?.unwrap_or(-1);
    Ok((separator, usize::try_from(max).unwrap_or(usize::MAX)))
}

fn split_at_spaces(text: &str, max: usize) -> Vec<Value> {
    let mut parts = Vec::new();
    let mut rest = begin_of(text, None);
    while !rest.is_empty() {
        match rest.find(is_space).filter(|_| parts.len() < max) {
            Some(end) => {
                parts.push(Value::from(&rest[..end]));
                rest = begin_of(&rest[end..], None);
            }
            None => {
                parts.push(Value::from(rest));
                break;
            }
        }
    }
    parts
}

fn rsplit_at_spaces(text: &str, max: usize) -> Vec<Value> {
    let mut parts = Vec::new();
    let mut rest = end_of(text, None);
    while !rest.is_empty() {
        match rest.char_indices().rfind(|(_, c)| is_space(*c)).filter(|_| parts.len() < max) {
            Some((at, c)) => {
                parts.push(Value::from(&rest[at + c.len_utf8()..]));
                rest = end_of(&rest[..at], None);
            }
            None => {
                parts.push(Value::from(rest));
                break;
            }
        }
    }
    parts.reverse();
    parts
}

fn split(text: &str, args: &[Value]) -> Result<Value, Error> {
    Ok(Value::from(match split_arguments(args)? {
        (None, max) => split_at_spaces(text, max),
        (Some(separator), max) => text.splitn(max.saturating_add(1), &separator).map(Value::from).collect(),
    }))
}

fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    Ok(Value::from(match split_arguments(args)? {
        (None, max) => rsplit_at_spaces(text, max),
        (Some(separator), max) => {
            let mut parts: Vec<_> = text.rsplitn(max.saturating_add(1), &separator).map(Value::from).collect();
            parts.reverse();
            parts
        }
    }))
}

pub fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let is_end = |c: char| matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(is_end).unwrap_or(rest.len());
        let behind = &rest[end..];
        let n_end = if behind.starts_with("\r\n") { 2 } else { behind.chars().next().map_or(0, char::len_utf8) };
        lines.push(&rest[..if keep_ends { end + n_end } else { end }]);
        rest = &rest[end + n_end..];
    }
    lines
}

fn partition(text: &str, separator: &str, from_end: bool) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(wrong_value("partition: an empty separator"));
    }
    let parts = match if from_end { text.rsplit_once(separator) } else { text.split_once(separator) } {
        Some((before, behind)) => [before, separator, behind],
        None if from_end => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

/// ljust(), rjust() and center(): pads to a width in characters.
fn justify(state: &State, text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (width, fill): (usize, Option<&str>) = from_args(args)?;
    let fill = fill.unwrap_or(" ");
    if fill.chars().count() != 1 {
        return Err(wrong_value("the fill character must be one character"));
    }
    let n = width.saturating_sub(text.chars().count());
    charge(state, n.saturating_mul(4))?;
    let left = match method {
        "ljust" => 0,
        "rjust" => n,
        _ => n / 2 + (n & width & 1),
    };
    Ok(Value::from(fill.repeat(left) + text + &fill.repeat(n - left)))
}

fn zfill(state: &State, text: &str, width: usize) -> Result<Value, Error> {
    let n = width.saturating_sub(text.chars().count());
    charge(state, n)?;
    let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
    Ok(Value::from(sign.to_string() + &"0".repeat(n) + digits))
}

fn join(state: &State, separator: &str, items: &Value) -> Result<Value, Error> {
    let mut text = String::new();
    for (i, item) in items.try_iter()?.enumerate() {
        let part = item.as_str().ok_or_else(|| wrong_value("join: an item is not a string"))?;
        charge(state, part.len() + separator.len())?;
        if i > 0 {
            text += separator;
        }
        text += part;
    }
    Ok(Value::from(text))
}

fn find(text: &str, what: &str, from_end: bool) -> Option<usize> {
    let at = if from_end { text.rfind(what) } else { text.find(what) };
    at.map(|at| text[..at].chars().count())
}

fn swap_case(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_uppercase() { c.to_lowercase().collect::<Vec<_>>() } else { c.to_uppercase().collect() })
        .collect()
}

/// title(): a word begins after any character that is not a letter.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.extend(c.to_lowercase());
        } else {
            let mut upper = c.to_uppercase();
            out.extend(upper.next());
            out.extend(upper.flat_map(char::to_lowercase));
        }
        in_word = c.is_alphabetic();
    }
    out
}

fn string_method(state: &State, text: &str, method: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    let one_text = || from_args::<(&str,)>(args).map(|(text,)| text);
    let chars = || from_args::<(Option<&str>,)>(args).map(|(chars,)| chars);
    Some(match method {
        "strip" => chars().map(|chars| Value::from(strip(text, chars))),
        "lstrip" => chars().map(|chars| Value::from(begin_of(text, chars))),
        "rstrip" => chars().map(|chars| Value::from(end_of(text, chars))),
        "split" => split(text, args),
        "rsplit" => rsplit(text, args),
        "splitlines" => from_args::<(Option<bool>,)>(args).map(|(keep,)| {
            lines(text, keep.unwrap_or(false)).into_iter().map(Value::from).collect()
        }),
        "partition" => one_text().and_then(|separator| partition(text, separator, false)),
        "rpartition" => one_text().and_then(|separator| partition(text, separator, true)),
        "removeprefix" => one_text().map(|prefix| Value::from(text.strip_prefix(prefix).unwrap_or(text))),
        "removesuffix" => one_text().map(|suffix| Value::from(text.strip_suffix(suffix).unwrap_or(text))),
        "center" | "ljust" | "rjust" => justify(state, text, method, args),
        "zfill" => from_args::<(usize,)>(args).and_then(|(width,)| zfill(state, text, width)),
        "join" => from_args::<(&Value,)>(args).and_then(|(items,)| join(state, text, items)),
        "index" | "rindex" => one_text().and_then(|what| {
            find(text, what, method == "rindex").map(Value::from).ok_or_else(|| wrong_value("substring not found"))
        }),
        "title" => from_args::<()>(args).map(|()| Value::from(title(text))),
        "swapcase" => from_args::<()>(args).map(|()| Value::from(swap_case(text))),
        "casefold" => from_args::<()>(args).map(|()| Value::from(text.to_lowercase())),
        _ => return None,
    })
}

fn list_method(state: &State, value: &Value, method: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    Some(match method {
        "index" => from_args::<(&Value,)>(args).and_then(|(what,)| {
            let at = print::items(state, value)?.position(|item| item.is_ok_and(|item| item == *what));
            at.map(Value::from).ok_or_else(|| wrong_value("the value is not in the list"))
        }),
        "copy" if !value.is_tuple() => from_args::<()>(args).map(|()| value.clone()),
        _ => return None,
    })
}

pub fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let done = match value.kind() {
        ValueKind::String => string_method(state, value.as_str().unwrap_or_default(), method, args),
        ValueKind::Seq | ValueKind::Iterable => list_method(state, value, method, args),
        ValueKind::Map if method == "copy" => Some(from_args::<()>(args).map(|()| value.clone())),
        _ => None,
    };
    done.unwrap_or_else(|| unknown_method_callback(state, value, method, args))
}

