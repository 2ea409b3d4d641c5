//! `spank_gantry.so`: what runs inside Slurm. Adds `--image` and `--volume` to srun, sbatch and salloc.
//!
//! This file is all that Slurm sees: the plugin's name, its version, and one line for each callback into
//! `dispatch`. No job_prolog and no job_epilog, which would cost every job of the cluster (`packaging/slurm` has
//! programs for both).
#![allow(unsafe_code)]

mod config;
mod devices;
mod dispatch;
#[cfg(test)]
mod fake_program;
mod guard;
mod hold;
mod identity;
mod options;
mod pyxis;
mod resolve;
mod spank;
mod stepd;
mod submit;
mod task;
mod variables;
mod version;

/// The names are Slurm's. Unit tests run without them: they would need Slurm to link.
#[cfg(not(test))]
#[allow(non_upper_case_globals, unreachable_pub)]
mod exports {
    use crate::spank::{Handle, RawHandle, api_version, arguments, end_process};
    use crate::{dispatch, version};
    use std::ffi::{c_char, c_int};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// How options are called in the environment; the same on all nodes whatever the file is called.
    #[unsafe(no_mangle)]
    pub static plugin_name: [u8; 7] = *b"gantry\0";

    /// What Slurm wants of its plugins.
    #[unsafe(no_mangle)]
    pub static plugin_type: [u8; 6] = *b"spank\0";

    /// Zero, which no Slurm accepts, until the constructor below ran.
    #[unsafe(no_mangle)]
    pub static plugin_version: AtomicU32 = AtomicU32::new(0);

    /// Runs within dlopen(3), before Slurm looks at `plugin_version`.
    #[used]
    #[unsafe(link_section = ".init_array")]
    static CONSTRUCTOR: extern "C" fn() = {
        extern "C" fn fill_in_version() {
            plugin_version.store(version::plugin_version(api_version()), Ordering::Relaxed);
        }
        fill_in_version
    };

    /// In every program that loads the plugin, first of all.
    ///
    /// # Safety
    /// Called by Slurm with its handle and the words of plugstack.conf, as for all callbacks here.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn slurm_spank_init(
        spank: RawHandle,
        count: c_int,
        words: *mut *mut c_char,
    ) -> c_int {
        dispatch::quieten_panics();
        // SAFETY: Slurm passes `count` strings.
        let words = unsafe { arguments(count, words) };
        // SAFETY: the handle is Slurm's and outlives this call.
        let mut spank = unsafe { Handle::from_raw(spank) };
        dispatch::init(&mut spank, &words)
    }

    /// In clients and in slurmstepd, once the options are known. Does not return to a client that must not submit:
    /// Slurm would go on where plugstack.conf says `optional`, and say more than is of use where not.
    ///
    /// # Safety
    /// As [`slurm_spank_init`].
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn slurm_spank_init_post_opt(
        spank: RawHandle,
        _count: c_int,
        _words: *mut *mut c_char,
    ) -> c_int {
        // SAFETY: the handle is Slurm's and outlives this call.
        let mut spank = unsafe { Handle::from_raw(spank) };
        match dispatch::post_options(&mut spank) {
            0 => 0,
            code => end_process(code),
        }
    }

    /// In each task, as its user, before the exec. Does not return where the task must not start: Slurm would go
    /// on with it where plugstack.conf says `optional`.
    ///
    /// # Safety
    /// As [`slurm_spank_init`].
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn slurm_spank_task_init(
        spank: RawHandle,
        _count: c_int,
        _words: *mut *mut c_char,
    ) -> c_int {
        // SAFETY: the handle is Slurm's and outlives this call.
        let mut spank = unsafe { Handle::from_raw(spank) };
        match dispatch::task(&mut spank) {
            0 => 0,
            code => end_process(code),
        }
    }
}
