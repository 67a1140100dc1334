//! Constrained texts by llguidance: which tokens can come next, for a JSON schema, a regular expression or a grammar in
//! Lark.

use std::sync::{Arc, OnceLock};

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::Value;

use crate::call::{self, CakeBytes};
use crate::schema::{self, Overlap};

/// Compiling recurses on nested schemas and expressions.
const STACK_BYTES: usize = 256 << 20;

/// CakeTokens in cake_bridge.h.
#[repr(C)]
pub struct CakeTokens {
    bytes: *const u8,
    ends: *const usize,
    n: usize,
    end_tokens: *const u32,
    n_end_tokens: usize,
}

/// The tokens of a vocabulary, prepared for computing masks.
pub struct CakeGuideTokens {
    factory: Arc<ParserFactory>,
}

/// CakeGuideSource in cake_bridge.h.
#[repr(C)]
pub struct CakeGuideSource {
    kind: i32,
    text: *const u8,
    n_text: usize,
    lenient: bool,
}

const JSON_SCHEMA: i32 = 0;
const REGEX: i32 = 1;
const LARK: i32 = 2;

/// A text that is being generated under a constraint.
pub struct CakeGuide {
    matcher: Matcher,
    end_tokens: Arc<[u32]>,
}

/// CakeGuideMade in cake_bridge.h.
#[repr(C)]
pub struct CakeGuideMade {
    guide: *mut CakeGuide,
    message: CakeBytes,
}

/// Bounds what a constraint from outside may cost: about 20 ms to compile its lexemes, 15 ms for a mask, and 40 MB for
/// the states of its lexer.
fn limits() -> ParserLimits {
    ParserLimits { initial_lexer_fuel: 400_000, max_lexer_states: 25_000, verbose_errors: false, ..ParserLimits::default() }
}

fn factory_of(env: &TokEnv) -> Result<ParserFactory, String> {
    let mut factory = ParserFactory::new_simple(env).map_err(|error| error.to_string())?;
    *factory.limits_mut() = limits();
    factory.quiet();
    Ok(factory)
}

/// A vocabulary of single bytes, for checking a constraint without a model.
fn bytes_alone() -> Result<Arc<ParserFactory>, String> {
    static FACTORY: OnceLock<Result<Arc<ParserFactory>, String>> = OnceLock::new();
    FACTORY.get_or_init(|| factory_of(&ApproximateTokEnv::single_byte_env()).map(Arc::new)).clone()
}

unsafe fn slice<'a, T>(data: *const T, n: usize) -> &'a [T] {
    if n == 0 {
        &[]
    } else {
        std::slice::from_raw_parts(data, n)
    }
}

unsafe fn tokens_of(source: &CakeTokens) -> Result<CakeGuideTokens, String> {
    let ends = slice(source.ends, source.n);
    let bytes = slice(source.bytes, ends.last().copied().unwrap_or(0));
    let end_tokens = slice(source.end_tokens, source.n_end_tokens);
    let Some(&end) = end_tokens.first() else {
        return Err("the vocabulary has no token that ends a text".into());
    };
    let mut begin = 0;
    let words: Vec<Vec<u8>> = ends.iter().map(|&end| bytes[std::mem::replace(&mut begin, end)..end].to_vec()).collect();
    let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words).with_eos_tokens(end_tokens);
    let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    Ok(CakeGuideTokens { factory: Arc::new(factory_of(&env)?) })
}

/// White space between the parts of a JSON text, as models write it: a space or two, or a line break and an indentation.
/// Small models would otherwise go on with white space without end.
const WHITE_SPACE: &str = r"\x20{1,2}|\r?\n[\x20\x09]{0,40}";

fn json_grammar(mut schema: Value, lenient: bool) -> TopLevelGrammar {
    let options = JsonCompileOptions { lenient, whitespace_pattern: Some(WHITE_SPACE.into()), ..Default::default() };
    if schema.is_object() {
        options.apply_to(&mut schema); // replaces the options that the schema may bring along
    }
    TopLevelGrammar::from_json_schema(schema)
}

type Compiled = Result<(CakeGuide, Vec<String>), String>;

fn compile_grammar(factory: &ParserFactory, grammar: TopLevelGrammar) -> Compiled {
    let parser = factory.create_parser(grammar).map_err(|error| plain(&error.to_string()))?;
    let end_tokens = factory.tok_env().tok_trie().eos_tokens().into();
    let mut matcher = Matcher::new(Ok(parser));
    let ignored = matcher.grammar_warnings().iter().flat_map(|warning| keywords(warning)).collect();
    match matcher.get_error() {
        Some(error) => Err(plain(&error)),
        None => Ok((CakeGuide { matcher, end_tokens }, ignored)),
    }
}

/// Whether any value is valid for `schema`. It must not depend on the vocabulary, so that a check without one suffices.
fn overlap(schema: Value) -> Overlap {
    let Ok(factory) = bytes_alone() else { return Overlap::Unknown };
    match factory.create_parser(json_grammar(schema, true)) {
        Ok(_) => Overlap::Some,
        Err(error) if error.to_string().contains(UNSATISFIABLE) => Overlap::None,
        Err(_) => Overlap::Unknown,
    }
}

fn compile_schema(factory: &ParserFactory, text: &str, lenient: bool) -> Compiled {
    let mut schema: Value = serde_json::from_str(text).map_err(|error| format!("the schema is not JSON: {error}"))?;
    if !schema.is_object() && !schema.is_boolean() {
        return Err("the schema must be an object or a boolean".into());
    }
    schema::settle_one_of(&mut schema, overlap).map_err(|()| plain(ONE_OF))?;
    let compiled = compile_grammar(factory, json_grammar(schema.clone(), lenient));
    match compiled {
        // Expressions are what fails most among the keywords that llguidance knows.
        Err(_) if lenient && schema::remove_patterns(&mut schema) => {
            let (guide, mut ignored) = compile_grammar(factory, json_grammar(schema, lenient))?;
            ignored.extend(["pattern".into(), "patternProperties".into()]);
            Ok((guide, ignored))
        }
        other => other,
    }
}

/// Returns the guide, and the ignored keywords, one in each line.
fn compile(factory: &ParserFactory, kind: i32, text: String, lenient: bool) -> Result<(CakeGuide, String), String> {
    let (guide, mut ignored) = match kind {
        JSON_SCHEMA => compile_schema(factory, &text, lenient)?,
        REGEX => compile_grammar(factory, TopLevelGrammar::from_regex(&text))?,
        LARK => compile_grammar(factory, TopLevelGrammar::from_lark(text))?,
        _ => return Err(format!("there is no constraint of kind {kind}")),
    };
    ignored.iter_mut().for_each(|keyword| *keyword = keyword.replace(char::is_control, " "));
    ignored.sort();
    ignored.dedup();
    Ok((guide, ignored.join("\n")))
}

// How messages of llguidance begin.
const UNIMPLEMENTED: &str = "Unimplemented keys: ";
const ONE_OF: &str = "oneOf";
const NUMBER_OF_PROPERTIES: &str = "min/maxProperties";
const FORMAT: &str = "Unknown format: ";
const PANIC: &str = "panic: ";
const OVERFLOW: (&str, &str) = ("panic: attempt to ", " with overflow");
const UNSATISFIABLE: &str = "Unsatisfiable schema";

/// The keywords that a warning about a lenient schema is about.
fn keywords(warning: &str) -> Vec<String> {
    if let Some(list) = warning.strip_prefix(UNIMPLEMENTED) {
        let end = list.rfind(']').map_or(list.len(), |i| i + 1); // "(2 times)" may follow
        return serde_json::from_str(&list[..end]).unwrap_or_else(|_| vec![list.into()]);
    }
    if warning.starts_with(ONE_OF) {
        return vec!["oneOf".into()];
    }
    if warning.starts_with(NUMBER_OF_PROPERTIES) {
        return vec!["minProperties or maxProperties".into()];
    }
    vec![warning.strip_prefix(FORMAT).map_or_else(|| warning.into(), |name| format!("format {name}"))]
}

/// An error in one line and in our words, without the state of the parser that llguidance appends to it.
fn plain(error: &str) -> String {
    let end = error.find("\n<").unwrap_or(error.len());
    // Indented lines quote the input, except for those that say where in the schema it happened.
    let lines = error[..end].trim().lines().filter(|line| !line.starts_with(' ') || line.starts_with("  while "));
    let error = lines.map(str::trim).collect::<Vec<_>>().join(", ").replace(":, error: ", ": ");
    if let Some(list) = error.strip_prefix(UNIMPLEMENTED) {
        return format!("these keywords cannot be enforced: {list}");
    }
    if let Some(name) = error.strip_prefix(FORMAT) {
        return format!("the format {name} cannot be enforced");
    }
    if error.starts_with(OVERFLOW.0) && error.ends_with(OVERFLOW.1) {
        return "a number in it is beyond what can be enforced".into();
    }
    if error.starts_with(PANIC) {
        return "it cannot be enforced: llguidance fails on it".into();
    }
    if error.starts_with(ONE_OF) {
        return "oneOf cannot be enforced here, because a value may be valid for several of its schemas".into();
    }
    error
}

fn made(result: Result<(CakeGuide, String), String>) -> CakeGuideMade {
    match result {
        Ok((guide, warnings)) => CakeGuideMade { guide: Box::into_raw(Box::new(guide)), message: warnings.into_bytes().into() },
        Err(message) => CakeGuideMade { guide: std::ptr::null_mut(), message: message.into_bytes().into() },
    }
}

/// Runs `work` and writes the message of an error to `message`.
fn checked<T>(message: *mut CakeBytes, otherwise: T, work: impl FnOnce() -> Result<T, String>) -> T {
    match call::caught(work).and_then(|result| result) {
        Ok(value) => value,
        Err(error) => {
            unsafe { message.write(plain(&error).into_bytes().into()) };
            otherwise
        }
    }
}

/// # Safety
/// The pointers and lengths in `source` must describe readable memory; `ends` must not decrease; `message` must be
/// writable.
#[no_mangle]
pub unsafe extern "C" fn cake_guide_tokens(source: *const CakeTokens, message: *mut CakeBytes) -> *mut CakeGuideTokens {
    checked(message, std::ptr::null_mut(), || tokens_of(&*source).map(|tokens| Box::into_raw(Box::new(tokens))))
}

/// # Safety
/// `tokens` must have been returned by cake_guide_tokens() and must not be used afterwards.
#[no_mangle]
pub unsafe extern "C" fn cake_free_guide_tokens(tokens: *mut CakeGuideTokens) {
    drop(Box::from_raw(tokens));
}

/// # Safety
/// `tokens` must be null or come from cake_guide_tokens(); `source` must describe readable memory.
#[no_mangle]
pub unsafe extern "C" fn cake_make_guide(tokens: *const CakeGuideTokens, source: *const CakeGuideSource) -> CakeGuideMade {
    let make = || {
        let factory = if tokens.is_null() { bytes_alone()? } else { (*tokens).factory.clone() };
        let (kind, lenient) = ((*source).kind, (*source).lenient);
        let text = call::text((*source).text, (*source).n_text, "the constraint")?;
        call::on_large_stack(STACK_BYTES, move || compile(&factory, kind, text, lenient)).and_then(|result| result)
    };
    made(call::caught(make).and_then(|result| result))
}

/// # Safety
/// `guide` must come from this interface.
#[no_mangle]
pub unsafe extern "C" fn cake_copy_guide(guide: *const CakeGuide) -> CakeGuideMade {
    let copy = || CakeGuide { matcher: (*guide).matcher.deep_clone(), end_tokens: (*guide).end_tokens.clone() };
    made(call::caught(copy).map(|guide| (guide, String::new())))
}

/// # Safety
/// `guide` must come from this interface and must not be used afterwards.
#[no_mangle]
pub unsafe extern "C" fn cake_free_guide(guide: *mut CakeGuide) {
    drop(Box::from_raw(guide));
}

impl CakeGuide {
    fn allows(&mut self, token: u32) -> Result<bool, String> {
        if self.end_tokens.contains(&token) {
            return Ok(self.may_end());
        }
        self.matcher.validate_tokens(&[token]).map(|n| n == 1).map_err(|error| error.to_string())
    }

    fn may_end(&mut self) -> bool {
        !self.matcher.is_error() && (self.matcher.is_stopped() || self.matcher.is_accepting().unwrap_or(false))
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        // A matcher stops with the last token that can come, and then takes no end token.
        if self.matcher.is_stopped() && self.may_end() && self.end_tokens.contains(&token) {
            return Ok(());
        }
        self.matcher.consume_token(token).map_err(|error| error.to_string())
    }

    /// Writes one bit per token to `mask`, the lowest bit of the first word for token 0.
    fn mask(&mut self, mask: &mut [u32]) -> Result<(), String> {
        let allowed = self.matcher.compute_mask_or_eos().map_err(|error| error.to_string())?;
        let words = allowed.as_slice();
        let n = words.len().min(mask.len());
        mask[..n].copy_from_slice(&words[..n]);
        mask[n..].fill(0);
        Ok(())
    }
}

/// # Safety
/// `guide` must come from this interface; `message` must be writable.
#[no_mangle]
pub unsafe extern "C" fn cake_guide_allows(guide: *mut CakeGuide, token: u32, message: *mut CakeBytes) -> bool {
    checked(message, false, || (*guide).allows(token))
}

/// # Safety
/// `guide` must come from this interface; `mask` must have `n_words` words; `message` must be writable.
#[no_mangle]
pub unsafe extern "C" fn cake_guide_mask(guide: *mut CakeGuide, mask: *mut u32, n_words: usize, message: *mut CakeBytes) -> bool {
    checked(message, false, || (*guide).mask(std::slice::from_raw_parts_mut(mask, n_words)).map(|()| true))
}

/// # Safety
/// `guide` must come from this interface; `message` must be writable.
#[no_mangle]
pub unsafe extern "C" fn cake_guide_accept(guide: *mut CakeGuide, token: u32, message: *mut CakeBytes) -> bool {
    checked(message, false, || (*guide).accept(token).map(|()| true))
}

/// # Safety
/// `guide` must come from this interface.
#[no_mangle]
pub unsafe extern "C" fn cake_guide_may_end(guide: *mut CakeGuide) -> bool {
    call::caught(|| (*guide).may_end()).unwrap_or(false)
}
