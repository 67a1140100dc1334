//! Rewrites a template for tags and operators that minijinja lacks or treats differently.

/// Position after the closing delimiter of a tag that begins before `from`. Strings in the tag are skipped.
fn tag_end(bytes: &[u8], from: usize, close: &[u8]) -> usize {
    let mut i = from;
    let mut quote = None;
    while i < bytes.len() {
        match (quote, bytes[i]) {
            (Some(_), b'\\') => i += 1,
            (Some(open), byte) if open == byte => quote = None,
            (None, b'\'' | b'"') => quote = Some(bytes[i]),
            (None, _) if bytes[i..].starts_with(close) => return i + close.len(),
            _ => {}
        }
        i += 1;
    }
    bytes.len()
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes.get(from..)?.windows(what.len()).position(|window| window == what).map(|at| from + at)
}

/// The first word of a tag, as a range of `bytes`. `from`: position after the opening delimiter.
fn first_word(bytes: &[u8], from: usize) -> (usize, usize) {
    let mut begin = from;
    if begin < bytes.len() && (bytes[begin] == b'-' || bytes[begin] == b'+') {
        begin += 1;
    }
    while begin < bytes.len() && bytes[begin].is_ascii_whitespace() {
        begin += 1;
    }
    let mut end = begin;
    while end < bytes.len() && is_word(bytes[end]) {
        end += 1;
    }
    (begin, end)
}

/// End of the raw block whose opening tag ends at `from`.
fn raw_end(bytes: &[u8], mut from: usize) -> usize {
    while let Some(open) = find(bytes, from, b"{%") {
        let (begin, end) = first_word(bytes, open + 2);
        if &bytes[begin..end] == b"endraw" {
            return tag_end(bytes, end, b"%}");
        }
        from = open + 2;
    }
    bytes.len()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Position of the closing quote of the string that begins at `at`. At least `end` if there is none before `end`.
fn closing_quote(bytes: &[u8], at: usize, end: usize) -> usize {
    let mut i = at + 1;
    while i < end && bytes[i] != bytes[at] {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    i
}

/// Range of the first of `words` in a part of a tag, outside strings and brackets.
fn find_word(bytes: &[u8], from: usize, to: usize, words: &[&[u8]]) -> Option<(usize, usize)> {
    let mut depth = 0;
    let mut i = from;
    while i < to {
        match bytes[i] {
            b'\'' | b'"' => i = closing_quote(bytes, i, to),
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            byte if is_word(byte) => {
                let end = (i..to).find(|&at| !is_word(bytes[at])).unwrap_or(to);
                if depth == 0 && words.contains(&&bytes[i..end]) {
                    return Some((i, end));
                }
                i = end;
                continue;
            }
            _ => {}
        }
        i += 1;
    }
    None
}

/// The operand of a `for` tag, as a range of `bytes`. `from`: position after the word "for". `close`: end of the tag.
fn iterated(bytes: &[u8], from: usize, close: usize) -> Option<(usize, usize)> {
    let inside = close.checked_sub(2).filter(|&end| end > from)?;
    let end = if matches!(bytes[inside - 1], b'-' | b'+') { inside - 1 } else { inside };
    let (_, begin) = find_word(bytes, from, end, &[b"in"])?;
    let end = find_word(bytes, begin, end, &[b"if", b"recursive"]).map_or(end, |(at, _)| at);
    Some((begin, end))
}

/// Calls `change` for every tag of a template, except in comments and raw text, and copies the parts of the source that
/// `change` has not written itself. Its arguments are the output, the range of the first word of the tag, the end of
/// the tag, and the position up to which the source has been copied.
fn through_tags(source: &str, mut change: impl FnMut(&mut String, (usize, usize), usize, &mut usize)) -> String {
    let bytes = source.as_bytes();
    let mut out = String::with_capacity(source.len());
    let mut copied = 0;
    let mut i = 0;
    while let Some(open) = find(bytes, i, b"{") {
        i = match bytes.get(open + 1) {
            Some(b'#') => find(bytes, open + 2, b"#}").map_or(bytes.len(), |at| at + 2),
            Some(b'{') => {
                let close = tag_end(bytes, open + 2, b"}}");
                change(&mut out, (open + 2, open + 2), close, &mut copied);
                close
            }
            Some(b'%') => {
                let word = first_word(bytes, open + 2);
                let close = tag_end(bytes, word.1, b"%}");
                change(&mut out, word, close, &mut copied);
                if &bytes[word.0..word.1] == b"raw" { raw_end(bytes, close) } else { close }
            }
            _ => open + 1,
        };
    }
    out.push_str(&source[copied..]);
    out
}

/// Ends of the left operands of all additions in a tag: `+` between two operands, outside strings.
fn additions(bytes: &[u8], from: usize, close: usize) -> Vec<usize> {
    let end = close.saturating_sub(2).max(from);
    let mut places = Vec::new();
    let mut operand_end = None;
    let mut i = from;
    while i < end {
        match bytes[i] {
            b'\'' | b'"' => {
                i = closing_quote(bytes, i, end);
                operand_end = Some(i + 1);
            }
            b'+' if i + 1 < end => {
                places.extend(operand_end);
                operand_end = None;
            }
            byte if byte.is_ascii_whitespace() => {}
            byte if is_word(byte) || matches!(byte, b')' | b']' | b'}') => operand_end = Some(i + 1),
            _ => operand_end = None,
        }
        i += 1;
    }
    places
}

/// Applies the filter bounded() to the left operand of every addition. minijinja adds lists without copying them, so a
/// template could otherwise build a list of any length without using fuel.
pub fn bounded(source: &str) -> String {
    through_tags(source, |out, word, close, copied| {
        for place in additions(source.as_bytes(), word.1, close) {
            out.push_str(&source[*copied..place]);
            out.push_str("|_bounded");
            *copied = place;
        }
    })
}

/// Rewrites two tags:
/// - `{% generation %}` marks the answers for training and prints its body. It opens a scope, so it becomes `with`.
/// - `{% for x in y %}` fails in Python if `y` is None. The filter iterated(), applied to `y`, does the same.
///
/// Line numbers do not change.
pub fn adapted(source: &str) -> String {
    let bytes = source.as_bytes();
    through_tags(source, |out, (begin, end), close, copied| match &bytes[begin..end] {
        b"generation" | b"endgeneration" => {
            out.push_str(&source[*copied..begin]);
            out.push_str(if bytes[begin] == b'g' { "with" } else { "endwith" });
            *copied = end;
        }
        b"for" => {
            if let Some((begin, end)) = iterated(bytes, end, close) {
                out.push_str(&source[*copied..begin]);
                out.push_str(" (");
                out.push_str(&source[begin..end]);
                out.push_str(")|_iterated ");
                *copied = end;
            }
        }
        _ => {}
    })
}
