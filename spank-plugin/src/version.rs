//! Which Slurm releases the plugin says it is made for.
//!
//! Slurm loads a plugin only if `plugin_version` has its own major and minor number (src/common/plugin.c). The
//! part of `spank.h` that the plugin uses is the same in all releases below, so one file serves them all: it
//! asks libslurm which release this is, before Slurm looks.

/// The value for `plugin_version` in the Slurm whose slurm_api_version(3) is `api_version`.
///
/// A release that nobody has tried gets 0, and its loader then refuses the plugin with a line that says so:
/// better than to find out inside a job.
pub(crate) fn plugin_version(api_version: u64) -> u32 {
    let current = api_version >> 16;
    RELEASES
        .iter()
        .find(|(api, ..)| *api == current)
        .map_or(0, |(_, major, minor)| major << 16 | minor << 8)
}

/// `API_CURRENT` in Slurm's META file, with the release's two numbers, which are in hexadecimal in
/// `SLURM_VERSION_NUMBER` as they are in decimal in its name.
const RELEASES: &[(u64, u32, u32)] = &[
    (38, 0x16, 0x05),
    (39, 0x17, 0x02),
    (40, 0x17, 0x0b),
    (41, 0x18, 0x05),
    (42, 0x18, 0x0b),
    (43, 0x19, 0x05),
    (44, 0x19, 0x0b),
    (45, 0x1a, 0x05),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_release_gets_the_number_in_its_header() {
        // SLURM_VERSION_NUMBER of the packages of Debian 12, Debian 13 and sid, without the micro part.
        for (api, number) in [(38, 0x16_05_00), (42, 0x18_0b_00), (45, 0x1a_05_00)] {
            assert_eq!(plugin_version(api << 16), number);
        }
    }

    #[test]
    fn a_release_that_nobody_has_tried_is_refused() {
        for api in [0, 37 << 16, 46 << 16, 38, u64::MAX] {
            assert_eq!(plugin_version(api), 0, "{api:#x}");
        }
    }
}
