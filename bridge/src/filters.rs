//! Filters that differ from minijinja's.

use std::borrow::Cow;

use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State};

use crate::{json, methods, print};

/// Consumes fuel for bytes that a filter produces. minijinja itself would notice them only afterwards.
pub fn charge(state: &State, n_bytes: usize) -> Result<(), Error> {
    state.consume_fuel(n_bytes as u64 / 64 + 1)
}

fn wrong_argument(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// The argument of a Python function, passed by position or by name.
fn argument(args: &[Value], place: usize, kwargs: &Kwargs, name: &str) -> Result<Option<Value>, Error> {
    let value = match args.get(place) {
        Some(value) => Some(value.clone()),
        None => kwargs.get::<Option<Value>>(name)?,
    };
    Ok(value.filter(|value| !value.is_none()))
}

fn indent_of(value: Option<Value>) -> Result<Option<String>, Error> {
    const MAX_INDENT: usize = 64;
    let Some(value) = value else { return Ok(None) };
    let text = match value.as_str() {
        Some(text) => text.to_string(),
        None if value.kind() == ValueKind::Bool => " ".repeat(usize::from(value.is_true())),
        None => " ".repeat(i64::try_from(value)?.clamp(0, MAX_INDENT as i64) as usize),
    };
    if text.len() > MAX_INDENT {
        return Err(wrong_argument("tojson: too wide an indent"));
    }
    Ok(Some(text))
}

fn separators_of(value: Option<Value>, has_indent: bool) -> Result<(String, String), Error> {
    let Some(value) = value else {
        return Ok((if has_indent { "," } else { ", " }.into(), ": ".into()));
    };
    let parts = value.try_iter()?.map(|part| part.as_str().map(str::to_string)).collect::<Option<Vec<_>>>();
    match parts.as_deref() {
        Some([item, key]) => Ok((item.clone(), key.clone())),
        _ => Err(wrong_argument("tojson: separators must be two strings")),
    }
}

/// tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False), as in transformers.
fn tojson(state: &State, value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    if args.len() > 4 {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let ascii = argument(&args, 0, &kwargs, "ensure_ascii")?;
    let indent = indent_of(argument(&args, 1, &kwargs, "indent")?)?;
    let separators = argument(&args, 2, &kwargs, "separators")?;
    let sort_keys = argument(&args, 3, &kwargs, "sort_keys")?;
    kwargs.assert_all_used()?;
    let (item_separator, key_separator) = separators_of(separators, indent.is_some())?;
    let style = json::Style {
        ascii: ascii.is_some_and(|value| value.is_true()),
        indent,
        item_separator,
        key_separator,
        sort_keys: sort_keys.is_some_and(|value| value.is_true()),
    };
    let text = json::dump(state, value, &style)?;
    charge(state, text.len())?;
    Ok(Value::from(text))
}

fn string(state: &State, value: &Value) -> Result<Value, Error> {
    if value.kind() == ValueKind::String {
        return Ok(value.clone());
    }
    let text = print::to_python(state, value)?;
    charge(state, text.len())?;
    Ok(Value::from(text))
}

fn trim(state: &State, value: &Value, chars: Option<&str>) -> Result<Value, Error> {
    let text = print::to_python(state, value)?;
    Ok(Value::from(methods::strip(&text, chars)))
}

/// Applied to the operand of a `for` loop. As in Python, None is an error. Strings and iterables become lists of their
/// items, which have a length.
fn iterated(state: &State, value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::None => Err(wrong_argument("None is not iterable")),
        ValueKind::String | ValueKind::Iterable => {
            Ok(Value::from(print::items(state, value)?.collect::<Result<Vec<_>, _>>()?))
        }
        _ => Ok(value.clone()),
    }
}

/// Applied to the left operand of an addition: a list costs as much fuel as copying it would.
fn bounded(state: &State, value: &Value) -> Result<Value, Error> {
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        charge(state, value.len().unwrap_or(0).saturating_mul(32))?;
    }
    Ok(value.clone())
}

fn sum(
    state: &State,
    values: Value,
    attribute: Option<&str>,
    start: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let total = minijinja::filters::sum(state, values, attribute, start, kwargs)?;
    bounded(state, &total)
}

/// An iterator without a known length, like Python's generators.
struct Generator(std::vec::IntoIter<Value>);

impl Iterator for Generator {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        self.0.next()
    }
}

fn generator(items: Vec<Value>) -> Value {
    Value::make_iterable(move || Generator(items.clone().into_iter()))
}

fn escape(state: &State, value: &Value) -> Result<Value, Error> {
    if value.is_safe() {
        return Ok(value.clone());
    }
    let text = print::to_python(state, value)?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            _ => out.push(c),
        }
    }
    Ok(Value::from_safe_string(out))
}

/// Adds the filters whose results are generators in Python.
fn add_generators(environment: &mut Environment) {
    use minijinja::filters::{map, reject, rejectattr, select, selectattr};
    type Text<'a> = Cow<'a, str>;
    type Others = Rest<ValueOrKwargs>;
    environment.add_filter("map", |state: &mut State, value: Value, others: Others| {
        map(state, value, others).map(generator)
    });
    environment.add_filter("select", |state: &mut State, value: Value, test: Option<Text>, others: Others| {
        select(state, value, test, others).map(generator)
    });
    environment.add_filter("reject", |state: &mut State, value: Value, test: Option<Text>, others: Others| {
        reject(state, value, test, others).map(generator)
    });
    environment.add_filter(
        "selectattr",
        |state: &mut State, value: Value, attribute: Text, test: Option<Text>, others: Others| {
            selectattr(state, value, attribute, test, others).map(generator)
        },
    );
    environment.add_filter(
        "rejectattr",
        |state: &mut State, value: Value, attribute: Text, test: Option<Text>, others: Others| {
            rejectattr(state, value, attribute, test, others).map(generator)
        },
    );
}

fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// True for values that have a length and items.
fn is_sequence(value: &Value) -> bool {
    value.is_undefined() || (is_iterable(value) && value.len().is_some())
}

/// indent(s, width=4, first=False, blank=False). The width may also be the string to indent with.
fn indent(state: &State, value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let width = match argument(&args, 0, &kwargs, "width")? {
        None => " ".repeat(4),
        Some(width) => indent_of(Some(width))?.unwrap_or_default(),
    };
    let first = argument(&args, 1, &kwargs, "first")?.is_some_and(|value| value.is_true());
    let blank = argument(&args, 2, &kwargs, "blank")?.is_some_and(|value| value.is_true());
    kwargs.assert_all_used()?;
    let text = print::to_python(state, value)? + "\n";
    let lines = methods::lines(&text, false);
    charge(state, text.len() + lines.len().saturating_mul(width.len()))?;
    let mut out = String::new();
    for (i, line) in lines.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let is_indented = if i == 0 { first } else { blank || !line.is_empty() };
        if is_indented {
            out.push_str(&width);
        }
        out.push_str(line);
    }
    Ok(Value::from(out))
}

pub fn add_to(environment: &mut Environment) {
    environment.add_filter("indent", indent);
    add_generators(environment);
    environment.add_filter("_bounded", bounded);
    environment.add_filter("_iterated", iterated);
    environment.add_filter("sum", sum);
    environment.add_filter("e", escape);
    environment.add_filter("escape", escape);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", string);
    environment.add_filter("trim", trim);
}
