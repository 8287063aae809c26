//! Names of libunwind that std calls, for the release binary: it has neither names nor unwind tables, so a
//! backtrace could show nothing. Without these two, the code that prints one adds 250 KB, and all of libunwind;
//! `scripts/release.ld` has the other names. A panic still shows its file and line.
#![expect(unsafe_code, reason = "the names are libunwind's, and the signatures too")]

use std::ffi::{c_int, c_void};

/// `_URC_END_OF_STACK`.
const END_OF_STACK: c_int = 5;

/// Ends every walk of the stack before its first frame, so that the compiler drops what would follow.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_each: *const c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

/// Only unwinding would reach its caller.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_GetIPInfo(_context: *mut c_void, _before: *mut c_int) -> usize {
    std::process::abort()
}
