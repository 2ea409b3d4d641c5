//! `--device` and the site's default for it: names that are passed on, and for whom.
//!
//! Whether there are such devices is for the front end to see, on the node: what they need stands in files, which
//! nothing in slurmstepd is to parse.

use crate::spank::Handle;
use std::ffi::CStr;

/// A list of CDI devices, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Devices(String);

impl Devices {
    /// Takes a list that has nothing but what such names have.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/=,".contains(&byte);
        let fits = !text.is_empty() && text.len() <= LIMIT && text.bytes().all(is_fit);
        fits.then(|| Self(text.to_owned()))
    }

    /// As it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The devices of a task: what the user says, or the site's default where Slurm granted GPUs.
pub(crate) fn of_task(
    spank: &Handle<'_>,
    wanted: &Option<Devices>,
    default: &Option<Devices>,
) -> Option<Devices> {
    let for_gpus = || default.clone().filter(|_| has_gpus(spank));
    wanted.clone().or_else(for_gpus)
}

/// Whether there is nothing to look for.
pub(crate) fn are_none(devices: &Option<Devices>) -> bool {
    devices.as_ref().is_none_or(|devices| devices.as_str() == "none")
}

/// Whether Slurm granted GPUs to the task, by the variables that it sets for those.
fn has_gpus(spank: &Handle<'_>) -> bool {
    let mut values = GPU_VARIABLES.iter().filter_map(|name| spank.job_variable(name));
    // What a step without GPUs in a job with some has (gres/gpu of Slurm).
    let names_any = |value: String| !["", "NoDevFiles", "-1"].contains(&value.as_str());
    values.any(names_any)
}

/// Where Slurm says which GPUs it granted.
pub(crate) const GPU_VARIABLES: [&CStr; 4] =
    [c"SLURM_STEP_GPUS", c"SLURM_JOB_GPUS", c"CUDA_VISIBLE_DEVICES", c"ROCR_VISIBLE_DEVICES"];

/// The most bytes of a list.
const LIMIT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_a_list_of_names() {
        for good in ["nvidia.com/gpu=1:0,amd.com/gpu=all", "none"] {
            assert_eq!(Devices::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a;b", "a\n", "a\"b", &"a".repeat(1025)] {
            assert_eq!(Devices::parse(bad), None, "{bad}");
        }
        assert!(are_none(&None) && are_none(&Devices::parse("none")));
        assert!(!are_none(&Devices::parse("a/b=c")));
    }
}
