//! Slurm itself, through the functions of `spank.h`.
//!
//! Every call of C that the plugin makes is in this file. Nothing here decides anything.
#![allow(unsafe_code)]

pub(crate) use super::bindings::spank_t as RawHandle;
use super::bindings::{self as c, spank_t};
use super::{Context, OptionText, SpankError, Step};
use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt as _;
use std::{mem, ptr};

/// Slurm's handle, for the length of one callback.
#[derive(Debug)]
pub(crate) struct Handle<'call> {
    raw: spank_t,
    call: PhantomData<&'call mut ()>,
}

impl Handle<'_> {
    /// Wraps the handle that a callback was given.
    ///
    /// # Safety
    /// `raw` is the first argument of a callback that is still running, and the result is gone before it ends.
    pub(crate) unsafe fn from_raw(raw: spank_t) -> Self {
        Self { raw, call: PhantomData }
    }

    /// Offers an option; only possible in `slurm_spank_init`. spank_option_register of spank.h.
    pub(crate) fn register(&mut self, option: &OptionText) -> Result<(), SpankError> {
        // Slurm keeps the pointer for as long as the process lives, hence the leak.
        let table = Box::leak(Box::new(c::spank_option {
            name: option.name.as_ptr().cast_mut(),
            arginfo: option.argument.map_or(ptr::null_mut(), |text| text.as_ptr().cast_mut()),
            usage: option.usage.as_ptr().cast_mut(),
            has_arg: option.argument.is_some().into(),
            val: option.number,
            cb: Some(option_callback),
        }));
        // SAFETY: the handle is live (from_raw), the table and its static strings live for ever (leak above).
        let code = unsafe { c::spank_option_register(self.raw, table) };
        check(code, "spank_option_register", &option.name.to_string_lossy())
    }

    /// A variable of the job's environment, in slurmstepd; `None` where it is not set or not text of at most
    /// 64 KiB. spank_getenv of spank.h.
    pub(crate) fn job_variable(&self, name: &CStr) -> Option<String> {
        let mut value = vec![0_u8; 64 << 10];
        let length = c_int::try_from(value.len()).ok()?;
        let start = value.as_mut_ptr().cast::<c_char>();
        // SAFETY: the handle is live (from_raw), the name ends in zero, and `length` is the buffer's own.
        let code = unsafe { c::spank_getenv(self.raw, name.as_ptr(), start, length) };
        let text = CStr::from_bytes_until_nul(&value).ok().filter(|_| code == 0)?;
        text.to_str().ok().map(str::to_owned)
    }

    /// Sets a variable of the task's environment, in slurmstepd. spank_setenv of spank.h.
    pub(crate) fn set_job_variable(&mut self, name: &CStr, value: &str) -> Result<(), SpankError> {
        let value = c_string(value);
        // SAFETY: the handle is live (from_raw); both strings end in zero and are copied by Slurm.
        let code = unsafe { c::spank_setenv(self.raw, name.as_ptr(), value.as_ptr(), 1) };
        check(code, "spank_setenv", &name.to_string_lossy())
    }

    /// Removes a variable from the task's environment, in slurmstepd. spank_unsetenv of spank.h.
    pub(crate) fn unset_job_variable(&mut self, name: &CStr) {
        // The only way to fail is that the handle is not slurmstepd's; then there is nothing to remove either.
        // SAFETY: the handle is live (from_raw) and the name ends in zero.
        unsafe { c::spank_unsetenv(self.raw, name.as_ptr()) };
    }

    /// Sets a variable that Prolog and Epilog see as `SPANK_<name>` and the job as `SLURM_SPANK_<name>`, in a
    /// client. spank_job_control_setenv of spank.h.
    pub(crate) fn set_control_variable(
        &mut self,
        name: &CStr,
        value: &str,
    ) -> Result<(), SpankError> {
        let value = c_string(value);
        // SAFETY: the handle is live (from_raw); both strings end in zero and are copied by Slurm.
        let code =
            unsafe { c::spank_job_control_setenv(self.raw, name.as_ptr(), value.as_ptr(), 1) };
        check(code, "spank_job_control_setenv", &name.to_string_lossy())
    }

    /// What kind of step this slurmstepd runs. S_JOB_STEPID of spank.h.
    pub(crate) fn step(&self) -> Result<Step, SpankError> {
        let mut id: u32 = 0;
        // SAFETY: S_JOB_STEPID takes one `uint32_t *`, which `&mut id` is.
        let code = unsafe { c::spank_get_item(self.raw, c::S_JOB_STEPID, &raw mut id) };
        check(code, "spank_get_item", "S_JOB_STEPID").map(|()| Step::from_id(id))
    }

    /// Puts `words` in front of the task's arguments; `Ok(false)` where this Slurm is too old for it (before
    /// 23.11). spank_prepend_task_argv of spank.h.
    pub(crate) fn prepend_arguments(&mut self, words: &[String]) -> Result<bool, SpankError> {
        let Some(function) = prepend_function() else { return Ok(false) };
        let words: Vec<CString> = words.iter().map(|word| c_string(word)).collect();
        let mut pointers: Vec<*const c_char> = words.iter().map(|word| word.as_ptr()).collect();
        let count = c_int::try_from(pointers.len()).unwrap_or(c_int::MAX);
        // SAFETY: the handle is live (from_raw); `count` strings that end in zero are there and copied by Slurm.
        let code = unsafe { function(self.raw, count, pointers.as_mut_ptr()) };
        check(code, "spank_prepend_task_argv", "the task").map(|()| true)
    }

    /// The first of the task's arguments.
    pub(crate) fn program(&self) -> Result<String, SpankError> {
        let words = self.task_arguments()?;
        // SAFETY: Slurm's array has an element (see task_arguments).
        let program = unsafe { *words };
        // SAFETY: the elements of an argument array end in zero, and Slurm does not free them before the exec.
        let program = unsafe { CStr::from_ptr(program) };
        Ok(program.to_string_lossy().into_owned())
    }

    /// Puts another program in the place of the first of the task's arguments.
    ///
    /// Only of use in `task_init`: the process is the forked task, and slurmstepd executes this very array.
    pub(crate) fn replace_program(&mut self, program: &str) -> Result<(), SpankError> {
        let words = self.task_arguments()?;
        // Leaked, as the old one: Slurm hands the strings to execve(2) and frees none before.
        let program = c_string(program).into_raw();
        // SAFETY: Slurm's array has an element (see task_arguments) and no other thread is in this process.
        unsafe { *words = program };
        Ok(())
    }

    /// The task's argument array, with at least one string in it. S_JOB_ARGV of spank.h.
    fn task_arguments(&self) -> Result<*mut *mut c_char, SpankError> {
        let (mut count, mut words): (c_int, *mut *mut c_char) = (0, ptr::null_mut());
        // SAFETY: S_JOB_ARGV takes `int *` and `char ***`, which the two are.
        let code =
            unsafe { c::spank_get_item(self.raw, c::S_JOB_ARGV, &raw mut count, &raw mut words) };
        check(code, "spank_get_item", "S_JOB_ARGV")?;
        // SAFETY: read only where Slurm says that the array has an element.
        if count < 1 || words.is_null() || unsafe { *words }.is_null() {
            return Err(SpankError {
                call: "spank_get_item",
                object: "S_JOB_ARGV".into(),
                reason: "the task has no program".into(),
            });
        }
        Ok(words)
    }
}

/// Which program this is. spank_context of spank.h.
pub(crate) fn context() -> Context {
    // SAFETY: takes nothing and reads Slurm's own state, from the thread that called us.
    match unsafe { c::spank_context() } {
        c::S_CTX_LOCAL => Context::Srun,
        c::S_CTX_ALLOCATOR => Context::Allocator,
        c::S_CTX_REMOTE => Context::Step,
        _ => Context::Elsewhere,
    }
}

/// Whether this Slurm can put words in front of a task's arguments (23.11 and later).
pub(crate) fn can_prepend() -> bool {
    prepend_function().is_some()
}

/// Sets a variable of this program's own environment: srun, sbatch and salloc pass theirs on to the job.
pub(crate) fn set_variable(name: &CStr, value: &str) {
    // SAFETY: no other thread may use the environment meanwhile. Up to 24.11 clients have none at this point;
    // later ones call setenv(3) themselves in the same phase (option handling), from the thread that called us.
    unsafe { std::env::set_var(OsStr::from_bytes(name.to_bytes()), &*without_nul(value)) }
}

/// Removes a variable of this program's own environment.
pub(crate) fn unset_variable(name: &CStr) {
    // SAFETY: as for `set_variable`.
    unsafe { std::env::remove_var(OsStr::from_bytes(name.to_bytes())) }
}

/// A variable of this program's own environment, where it is text.
pub(crate) fn variable(name: &CStr) -> Option<String> {
    std::env::var(OsStr::from_bytes(name.to_bytes())).ok()
}

/// Tells the user of a client, or the log of a daemon, what went wrong. slurm_error of spank.h.
pub(crate) fn log_error(text: &str) {
    let text = c_string(text);
    // SAFETY: the format is ours and takes one string that ends in zero.
    unsafe { c::slurm_error(c"%s".as_ptr(), text.as_ptr()) }
}

/// Tells the user from within slurmstepd, by way of the step's standard error. slurm_spank_log of spank.h.
pub(crate) fn log_to_user(text: &str) {
    let text = c_string(text);
    // SAFETY: the format is ours and takes one string that ends in zero.
    unsafe { c::slurm_spank_log(c"%s".as_ptr(), text.as_ptr()) }
}

/// Writes a line for the administrator who raised the log level. slurm_debug of spank.h.
pub(crate) fn log_debug(text: &str) {
    let text = c_string(text);
    // SAFETY: the format is ours and takes one string that ends in zero.
    unsafe { c::slurm_debug(c"%s".as_ptr(), text.as_ptr()) }
}

/// Runs this client's program anew, with its arguments and its environment as it is now.
///
/// # Errors
/// Why the kernel would not; otherwise this does not return.
pub(crate) fn restart() -> std::io::Result<()> {
    let words = std::env::args_os().map(|word| CString::new(word.as_bytes()));
    let words: Vec<CString> = words.collect::<Result<_, _>>()?;
    match nix::unistd::execv(c"/proc/self/exe", &words)? {}
}

/// Ends this process at once: a task that may not start. _exit(2), since slurmstepd's exit handlers are not ours.
pub(crate) fn end_process(code: i32) -> ! {
    // SAFETY: _exit(2) has no conditions.
    unsafe { libc::_exit(code) }
}

/// The words that plugstack.conf has behind the plugin's path.
///
/// # Safety
/// `words` points at `count` strings that end in zero, or `count` is not positive.
pub(crate) unsafe fn arguments(count: c_int, words: *mut *mut c_char) -> Vec<String> {
    let count = usize::try_from(count).unwrap_or(0);
    (0..count)
        .map(|index| {
            // SAFETY: `index` is below the count that the caller vouches for.
            let word = unsafe { words.add(index) };
            // SAFETY: as above.
            let word = unsafe { *word };
            // SAFETY: the caller vouches for strings that end in zero.
            let word = unsafe { CStr::from_ptr(word) };
            word.to_string_lossy().into_owned()
        })
        .collect()
}

/// The number by which libslurm knows its release; 0 where there is no libslurm in the process.
///
/// slurm_api_version of slurm.h: `API_CURRENT << 16 | age`.
pub(crate) fn api_version() -> u64 {
    // SAFETY: dlsym(3) takes any name that ends in zero.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"slurm_api_version".as_ptr()) };
    if address.is_null() {
        return 0;
    }
    // SAFETY: slurm.h declares `long slurm_api_version(void)` in every release from 20.11 to 26.05.
    let function: extern "C" fn() -> libc::c_long = unsafe { mem::transmute(address) };
    u64::try_from(function()).unwrap_or(0)
}

type Prepend = unsafe extern "C" fn(spank_t, c_int, *mut *const c_char) -> c::spank_err_t;

/// spank_prepend_task_argv, where Slurm has it. Linked, it would keep the plugin from loading in older releases.
fn prepend_function() -> Option<Prepend> {
    // SAFETY: dlsym(3) takes any name that ends in zero.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"spank_prepend_task_argv".as_ptr()) };
    if address.is_null() {
        return None;
    }
    // SAFETY: spank.h of 23.11 to 26.05 declares it with these types.
    Some(unsafe { mem::transmute::<*mut libc::c_void, Prepend>(address) })
}

/// What Slurm calls for each use of an option.
extern "C" fn option_callback(number: c_int, argument: *const c_char, remote: c_int) -> c_int {
    let text = if argument.is_null() {
        Cow::Borrowed("")
    } else {
        // SAFETY: Slurm passes the option's argument, which ends in zero and outlives the call.
        unsafe { CStr::from_ptr(argument) }.to_string_lossy()
    };
    crate::dispatch::option(number, &text, remote != 0)
}

fn check(code: c::spank_err_t, call: &'static str, object: &str) -> Result<(), SpankError> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: takes any number.
    let reason = unsafe { c::spank_strerror(code) };
    let reason = if reason.is_null() {
        format!("error {code}")
    } else {
        // SAFETY: spank_strerror returns a constant string or a thread's own buffer, valid until its next call.
        unsafe { CStr::from_ptr(reason) }.to_string_lossy().into_owned()
    };
    Err(SpankError { call, object: object.to_owned(), reason })
}

/// The text as C has it; a zero byte, which no text of ours has, would be dropped.
fn c_string(text: &str) -> CString {
    CString::new(without_nul(text).into_owned()).unwrap_or_default()
}

fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "").into() } else { text.into() }
}
