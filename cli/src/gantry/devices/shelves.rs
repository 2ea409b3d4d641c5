//! Where a device's libraries and programs appear inside: in directories of their own.
//!
//! A CDI file has them among the image's own. There a mount point would have to be made in a directory of hundreds
//! of files, which the read-only image lets the runtime do only by binding each of them again, up to a limit that
//! the library directory of any larger image is beyond. In a directory that no image has it costs nothing, and
//! LD_LIBRARY_PATH and PATH lead there.

/// Places for what the loader and the shell find by its name.
#[derive(Debug, Default)]
pub(super) struct Shelves {
    folders: Vec<String>,
}

impl Shelves {
    /// Shelves for the libraries of these directories.
    pub(super) fn new(mut folders: Vec<String>) -> Self {
        for folder in &mut folders {
            folder.truncate(folder.trim_end_matches('/').len());
        }
        folders.retain(|folder| folder.starts_with('/'));
        let mut distinct: Vec<String> = Vec::new();
        for folder in folders {
            if !distinct.contains(&folder) {
                distinct.push(folder);
            }
        }
        Self { folders: distinct }
    }

    /// Whether a path is directly in one of the directories of libraries.
    pub(super) fn is_library(&self, path: &str) -> bool {
        path.rsplit_once('/').is_some_and(|(above, _)| self.folders.iter().any(|it| it == above))
    }

    /// Where what a CDI file has at `path` is bound.
    pub(super) fn place(&self, path: &str) -> String {
        let below = self.folders.iter().enumerate().filter_map(|(number, folder)| {
            let rest = path.strip_prefix(folder.as_str())?.strip_prefix('/')?;
            Some((folder.len(), format!("{}/{rest}", library_directory(number))))
        });
        if let Some((_, place)) = below.max_by_key(|(length, _)| *length) {
            return place;
        }
        match path.rsplit_once('/') {
            Some((above, name)) if PROGRAM_DIRECTORIES.contains(&above) => {
                format!("{PROGRAMS}/{name}")
            }
            _ => path.to_owned(),
        }
    }

    /// The directories that something in `places` is directly in, for LD_LIBRARY_PATH.
    pub(super) fn library_directories(&self, places: &[String]) -> Vec<String> {
        let all = (0..self.folders.len()).map(library_directory);
        all.filter(|directory| has(places, directory)).collect()
    }

    /// The directory of programs where something in `places` is in it, for PATH.
    pub(super) fn program_directory(places: &[String]) -> Option<String> {
        has(places, PROGRAMS).then(|| PROGRAMS.to_owned())
    }
}

fn has(places: &[String], directory: &str) -> bool {
    places.iter().any(|place| place.rsplit_once('/').is_some_and(|(above, _)| above == directory))
}

fn library_directory(number: usize) -> String {
    format!("/.gantry-devices/lib{number}")
}

const PROGRAMS: &str = "/.gantry-devices/bin";

const PROGRAM_DIRECTORIES: &[&str] =
    &["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_programs_go_to_shelves_and_the_rest_stays_where_it_is() {
        let folders = ["/usr/lib64/", "/usr/lib64/vdpau", "/usr/lib64", "relative"];
        let shelves = Shelves::new(folders.map(str::to_owned).to_vec());
        for (path, place) in [
            ("/usr/lib64/libcuda.so.1", "/.gantry-devices/lib0/libcuda.so.1"),
            ("/usr/lib64/vdpau/libvdpau.so", "/.gantry-devices/lib1/libvdpau.so"),
            ("/usr/lib64/gbm/x.so", "/.gantry-devices/lib0/gbm/x.so"),
            ("/usr/lib64x/y.so", "/usr/lib64x/y.so"),
            ("/usr/bin/nvidia-smi", "/.gantry-devices/bin/nvidia-smi"),
            ("/run/nvidia/socket", "/run/nvidia/socket"),
        ] {
            assert_eq!(shelves.place(path), place);
        }
        let places = ["/.gantry-devices/lib1/a.so".into(), "/.gantry-devices/bin/b".into()];
        assert_eq!(shelves.library_directories(&places), ["/.gantry-devices/lib1"]);
        assert!(Shelves::program_directory(&places).is_some());
        assert_eq!(Shelves::program_directory(&places[..1]), None);
    }
}
