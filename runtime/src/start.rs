//! Start-up of the product: C's `main`, the allocator and what a panic does. Nothing else belongs here.
#![allow(unsafe_code)]

use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::ffi::{CStr, c_char, c_void};
use core::panic::PanicInfo;

/// What musl's start-up code calls.
#[unsafe(no_mangle)]
extern "C" fn main(argc: i32, argv: *const *const c_char, envp: *const *const c_char) -> i32 {
    // SAFETY: the kernel ends both arrays with a null pointer and their strings live as long as the process;
    // an empty argv (CVE-2021-4034) starts with that null pointer, and `argc` is not used to step over it.
    let arguments = unsafe { strings(argv) };
    // SAFETY: as above.
    let environment = unsafe { strings(envp) };
    if argc < 1 {
        return runtime::run(&[], &environment);
    }
    runtime::run(&arguments, &environment)
}

/// # Safety
/// `array` is null or points at valid C strings that live for ever, ended by a null pointer.
unsafe fn strings(array: *const *const c_char) -> Vec<&'static CStr> {
    let mut found = Vec::new();
    if array.is_null() {
        return found;
    }
    for index in 0.. {
        // SAFETY: no element before this one was null, so it is within the array (caller).
        let element = unsafe { array.add(index) };
        // SAFETY: `element` points into the array (above).
        let string = unsafe { *element };
        if string.is_null() {
            break;
        }
        // SAFETY: `string` is a C string that lives for ever (caller).
        found.push(unsafe { CStr::from_ptr(string) });
    }
    found
}

/// The C library's heap.
struct Heap;

// SAFETY: malloc(3) gives memory aligned for every fundamental type or null; larger alignments are refused.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > MALLOC_ALIGN {
            return core::ptr::null_mut();
        }
        // SAFETY: malloc takes any size.
        unsafe { libc::malloc(layout.size()) }.cast()
    }

    unsafe fn dealloc(&self, pointer: *mut u8, _: Layout) {
        // SAFETY: `pointer` came from malloc in `alloc` (GlobalAlloc's contract).
        unsafe { libc::free(pointer.cast::<c_void>()) }
    }
}

#[global_allocator]
static HEAP: Heap = Heap;

/// Formats nothing: what a panic would say may hold a user's bytes.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    runtime::die_of_a_defect()
}

/// Precompiled core and alloc refer to it; with `panic=abort` nothing calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() -> ! {
    runtime::die_of_a_defect()
}

/// As [`rust_eh_personality`].
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    runtime::die_of_a_defect()
}

/// What malloc aligns to on every 64-bit Linux.
const MALLOC_ALIGN: usize = 16;
