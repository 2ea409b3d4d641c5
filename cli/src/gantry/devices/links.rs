//! The links that hooks would have made: each a further bind of the file that it leads to.

use super::hooks::target_path;
use super::inject::Bind;
use super::shelves::Shelves;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Adds the names by which the loader knows the libraries in `binds`: the links that the host has beside them.
///
/// `update-ldcache` would have the container's ldconfig make the same from the files' sonames.
pub(super) fn add_sonames(binds: &mut Vec<Bind>, shelves: &Shelves) {
    // The host's real file of each library, in the directory that holds it.
    let mut directories: BTreeMap<PathBuf, Vec<(PathBuf, Bind)>> = BTreeMap::new();
    for bind in binds.iter().filter(|bind| shelves.is_library(&bind.inside)) {
        let host = Path::new(&bind.host);
        if let (Some(above), Ok(real)) = (host.parent(), fs::canonicalize(host)) {
            directories.entry(above.to_owned()).or_default().push((real, bind.clone()));
        }
    }
    for (directory, libraries) in directories {
        for name in link_names(&directory) {
            let of_stem = |bind: &Bind| stem(&bind.host) == stem(&name);
            if !libraries.iter().any(|(_, bind)| of_stem(bind)) {
                continue;
            }
            let Ok(real) = fs::canonicalize(directory.join(&name)) else { continue };
            let Some((_, library)) = libraries.iter().find(|(file, _)| *file == real) else {
                continue;
            };
            let above = library.inside.rsplit_once('/').map_or("", |(above, _)| above);
            add(binds, format!("{above}/{name}"), library.clone());
        }
    }
}

/// Adds a bind for each link whose target is bound, also by another link; returns those whose target is not.
pub(super) fn add_links(
    binds: &mut Vec<Bind>,
    mut links: Vec<(String, String)>,
) -> Vec<(String, String)> {
    loop {
        let before = links.len();
        links.retain(|(target, link)| {
            let path = target_path(target, link);
            let found = binds.iter().find(|bind| Some(&bind.inside) == path.as_ref()).cloned();
            let Some(found) = found else { return true };
            add(binds, link.clone(), found);
            false
        });
        if links.len() == before {
            return links;
        }
    }
}

fn add(binds: &mut Vec<Bind>, inside: String, of: Bind) {
    if !binds.iter().any(|bind| bind.inside == inside) {
        binds.push(Bind { inside, ..of });
    }
}

/// The symbolic links of a directory that can name libraries.
fn link_names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().take(ENTRIES_MOST);
    let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    let mut names: Vec<String> =
        links.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.contains(".so"));
    names.sort();
    names
}

/// `/usr/lib64/libcuda.so.550.54` -> `libcuda`.
fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.split(".so").next().unwrap_or_default()
}

/// More entries of a host's library directory are not looked at.
const ENTRIES_MOST: usize = 1 << 16;
