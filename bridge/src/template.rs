//! Renders chat templates with minijinja, set up as transformers sets up jinja2.

use std::error::Error as _;
use std::ffi::c_void;
use std::io;

use minijinja::{Error, ErrorKind};

use crate::call::{self, CakeBytes};
use crate::{environment, json, tags};

/// CakeClock in cake_bridge.h.
pub type Clock = extern "C" fn(user: *mut c_void, format: *const u8, n_format: usize, out: *mut u8, n_out: usize) -> usize;

/// CakeTemplate in cake_bridge.h.
#[repr(C)]
pub struct CakeTemplate {
    source: *const u8,
    n_source: usize,
    context: *const u8,
    n_context: usize,
    fuel: u64,
    max_output_bytes: usize,
    clock: Clock,
    clock_user: *mut c_void,
}

/// CakeRendered in cake_bridge.h.
#[repr(C)]
pub struct CakeRendered {
    status: i32,
    line: usize,
    text: CakeBytes,
}

const RENDERED: i32 = 0;
const WRONG_SYNTAX: i32 = 1;
const FAILED: i32 = 2;
const REFUSED: i32 = 3;
const OUT_OF_FUEL: i32 = 4;
const TOO_LONG: i32 = 5;
const BAD_CONTEXT: i32 = 6;
const INTERNAL: i32 = 7;

/// Nested lists and maps are printed, compared and freed recursively, so the stack must suffice for the deepest nesting
/// that the fuel allows.
const STACK_BYTES: usize = 1 << 30;

struct Failure {
    status: i32,
    line: usize,
    message: String,
}

impl Failure {
    fn new(status: i32, message: impl Into<String>) -> Self {
        Failure { status, line: 0, message: message.into() }
    }
}

/// An output that ends the rendering with an error when it exceeds `max_bytes`.
struct BoundedOutput {
    text: Vec<u8>,
    max_bytes: usize,
    is_full: bool,
}

impl io::Write for BoundedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.max_bytes - self.text.len() {
            self.is_full = true;
            return Err(io::Error::other("the output is full"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failure_of(error: &Error, is_syntax: bool) -> Failure {
    // The innermost error has the cause and the line.
    let mut innermost = error;
    let mut refused = None;
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(found) = inner.downcast_ref::<Error>() {
            innermost = found;
        } else if let Some(found) = inner.downcast_ref::<environment::Refusal>() {
            refused = Some(found.0.clone());
        }
        source = inner.source();
    }
    let line = innermost.line().or(error.line()).unwrap_or(0);
    if let Some(message) = refused {
        return Failure { status: REFUSED, line, message };
    }
    let status = match innermost.kind() {
        ErrorKind::OutOfFuel => OUT_OF_FUEL,
        ErrorKind::SyntaxError => WRONG_SYNTAX,
        _ if is_syntax => WRONG_SYNTAX,
        _ => FAILED,
    };
    let message = match innermost.detail() {
        Some(detail) => format!("{}: {detail}", innermost.kind()),
        None => innermost.kind().to_string(),
    };
    Failure { status, line, message }
}

struct Job {
    source: String,
    context: String,
    fuel: u64,
    max_output_bytes: usize,
    clock: Clock,
    clock_user: usize,
}

fn render(job: &Job) -> Result<Vec<u8>, Failure> {
    let context = json::parse(&job.context).map_err(|message| Failure::new(BAD_CONTEXT, message))?;
    let source = tags::bounded(&tags::adapted(&job.source));
    let (clock, user) = (job.clock, job.clock_user);
    let now = move |format: &str| {
        let mut out = [0u8; 1024];
        let n = clock(user as *mut c_void, format.as_ptr(), format.len(), out.as_mut_ptr(), out.len());
        String::from_utf8_lossy(&out[..n.min(out.len())]).into_owned()
    };
    let environment = environment::make(job.fuel, now);
    let template = environment.template_from_named_str("template", &source).map_err(|error| failure_of(&error, true))?;
    let mut output = BoundedOutput { text: Vec::new(), max_bytes: job.max_output_bytes, is_full: false };
    let rendered = template.render_captured_to(context, &mut output).map(|_| ());
    if output.is_full {
        return Err(Failure::new(TOO_LONG, "the output is too long"));
    }
    rendered.map_err(|error| failure_of(&error, false))?;
    Ok(output.text)
}

unsafe fn render_template(template: &CakeTemplate) -> Result<Vec<u8>, Failure> {
    let text = |bytes, n, what| call::text(bytes, n, what).map_err(|message| Failure::new(BAD_CONTEXT, message));
    let job = Job {
        source: text(template.source, template.n_source, "the template")?,
        context: text(template.context, template.n_context, "the conversation")?,
        fuel: template.fuel,
        max_output_bytes: template.max_output_bytes,
        clock: template.clock,
        clock_user: template.clock_user as usize,
    };
    call::on_large_stack(STACK_BYTES, move || render(&job)).unwrap_or_else(|message| Err(Failure::new(INTERNAL, message)))
}

/// # Safety
/// The pointers and lengths in `template` must describe readable memory. It must be safe to call the clock on another
/// thread.
#[no_mangle]
pub unsafe extern "C" fn cake_render_template(template: *const CakeTemplate) -> CakeRendered {
    let done = call::caught(|| render_template(&*template)).unwrap_or_else(|message| Err(Failure::new(INTERNAL, message)));
    match done {
        Ok(text) => CakeRendered { status: RENDERED, line: 0, text: CakeBytes::from(text) },
        Err(failure) => CakeRendered { status: failure.status, line: failure.line, text: failure.message.into_bytes().into() },
    }
}
