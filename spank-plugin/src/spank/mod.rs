//! The door to Slurm: what the plugin asks of the process that loaded it, in safe words.
//!
//! [`Handle`] and the functions beside it exist twice: `host` calls Slurm, `fake` remembers, so that unit tests
//! run without Slurm. No C string and no raw pointer leaves this directory.

#[cfg(not(test))]
mod bindings;
#[cfg(test)]
mod fake;
#[cfg(not(test))]
mod host;

#[cfg(test)]
pub(crate) use fake::*;
#[cfg(not(test))]
pub(crate) use host::*;

use std::fmt;

/// In which program the plugin runs (spank(8), "SPANK PLUGINS").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// srun.
    Srun,
    /// sbatch, salloc or scrontab.
    Allocator,
    /// slurmstepd, for one step on one node.
    Step,
    /// slurmd, a Prolog, an Epilog, or something that Slurm will add: nothing of ours is done there.
    Elsewhere,
}

impl Context {
    /// Whether this is a program that a user started on a login node or inside a job.
    pub(crate) fn is_client(self) -> bool {
        matches!(self, Self::Srun | Self::Allocator)
    }
}

/// Which kind of step a slurmstepd runs; the numbers are those of `slurm.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Started by srun.
    Normal,
    /// The batch script.
    Batch,
    /// The shell that salloc starts on the first node.
    Interactive,
    /// The step that only holds processes coming in by ssh.
    Extern,
}

impl Step {
    /// The kind of the step with this id.
    pub(crate) fn from_id(id: u32) -> Self {
        match id {
            0xffff_fffb => Self::Batch,
            0xffff_fffa => Self::Interactive,
            0xffff_fffc => Self::Extern,
            _ => Self::Normal,
        }
    }
}

/// An option to be shown by `srun --help` and taken by every program with the plugin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OptionText {
    /// The name behind the two dashes.
    pub(crate) name: &'static std::ffi::CStr,
    /// What stands for the argument in the help, where it takes one.
    pub(crate) argument: Option<&'static std::ffi::CStr>,
    /// The help.
    pub(crate) usage: &'static std::ffi::CStr,
    /// What the callback gets to know the option by.
    pub(crate) number: i32,
}

/// Slurm refused a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpankError {
    /// The function of `spank.h`.
    pub(crate) call: &'static str,
    /// What it was about: a variable or an option.
    pub(crate) object: String,
    /// What Slurm says.
    pub(crate) reason: String,
}

impl fmt::Display for SpankError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slurm refused {} for `{}`: {}", self.call, self.object, self.reason)
    }
}

impl std::error::Error for SpankError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_of_steps_have_slurms_numbers() {
        // SLURM_BATCH_SCRIPT, SLURM_EXTERN_CONT and SLURM_INTERACTIVE_STEP of slurm.h.
        for (id, step) in [
            (0xffff_fffb, Step::Batch),
            (0xffff_fffc, Step::Extern),
            (0xffff_fffa, Step::Interactive),
            (0, Step::Normal),
            (4711, Step::Normal),
        ] {
            assert_eq!(Step::from_id(id), step, "{id:#x}");
        }
    }
}
