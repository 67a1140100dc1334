//! What every function of the C interface needs: texts in and out, panics that become messages, a large stack.

use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

/// CakeBytes in cake_bridge.h.
#[repr(C)]
pub struct CakeBytes {
    data: *mut u8,
    size: usize,
    capacity: usize,
}

impl From<Vec<u8>> for CakeBytes {
    fn from(bytes: Vec<u8>) -> Self {
        let mut bytes = ManuallyDrop::new(bytes);
        CakeBytes { data: bytes.as_mut_ptr(), size: bytes.len(), capacity: bytes.capacity() }
    }
}

/// # Safety
/// `bytes` must have been returned by a function of this interface and must not be used afterwards.
#[no_mangle]
pub unsafe extern "C" fn cake_free_bytes(bytes: CakeBytes) {
    if !bytes.data.is_null() {
        drop(Vec::from_raw_parts(bytes.data, bytes.size, bytes.capacity));
    }
}

pub unsafe fn text(bytes: *const u8, n: usize, what: &str) -> Result<String, String> {
    let bytes = if n == 0 { &[] } else { std::slice::from_raw_parts(bytes, n) };
    std::str::from_utf8(bytes).map(str::to_string).map_err(|_| format!("{what} is not UTF-8"))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    format!("a library failed: {text}")
}

/// Returns the message of a panic as an error, and keeps panics from printing.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| ())));
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panic_message(panic.as_ref()))
}

/// Runs `work` on a thread of its own, for work that recurses on input from outside. Pages of the stack that are not
/// touched cost nothing.
pub fn on_large_stack<T: Send + 'static>(n_bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let worker = std::thread::Builder::new().stack_size(n_bytes).spawn(move || caught(work));
    let worker = worker.map_err(|error| format!("no thread could be started: {error}"))?;
    worker.join().unwrap_or_else(|panic| Err(panic_message(panic.as_ref())))
}
