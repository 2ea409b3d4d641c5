//! The skeleton planner, on trees that are not there: what is bound, copied, made, and what is refused.

use super::*;
use alloc::collections::BTreeMap;
use alloc::vec;
use proptest::prelude::*;

/// Paths and what is there.
struct Model(BTreeMap<String, EntryKind>);

impl Tree for Model {
    fn entries(&self, directory: &str) -> Result<Vec<(String, EntryKind)>, Errno> {
        let prefix = if directory == "/" { "/".into() } else { format!("{directory}/") };
        let below = self.0.iter().filter_map(|(path, kind)| {
            let name = path.strip_prefix(&prefix).filter(|name| !name.contains('/'))?;
            Some((name.into(), *kind))
        });
        Ok(below.collect())
    }

    fn mode(&self, _: &str) -> Result<u32, Errno> {
        Ok(0o40700)
    }
}

fn model(directories: &[&str], files: &[&str], links: &[&str]) -> Model {
    let all = |paths: &[&str], kind| {
        paths.iter().map(|path| ((*path).into(), kind)).collect::<Vec<(String, EntryKind)>>()
    };
    let mut tree: BTreeMap<String, EntryKind> = BTreeMap::new();
    tree.extend(all(directories, EntryKind::Directory));
    tree.extend(all(files, EntryKind::File));
    tree.extend(all(links, EntryKind::Link));
    Model(tree)
}

fn missing(path: &str, kind: Kind) -> (Place, Kind) {
    (Place { path: path.into(), found: None }, kind)
}

fn present(path: &str, kind: Kind) -> (Place, Kind) {
    (Place { path: path.into(), found: Some(kind) }, kind)
}

fn directory(path: &str) -> Action {
    Action::Directory(path.into(), 0o755)
}

#[test]
fn r13_a_deep_target_makes_its_directories_and_keeps_the_root_entries() {
    let tree = model(&["/usr", "/usr/bin"], &["/readme"], &["/bin"]);
    assert_eq!(
        plan(&[missing("/data/a/b", Kind::Directory)], &tree).unwrap(),
        [
            Action::Link("/bin".into()),
            Action::Bind("/readme".into(), Kind::File),
            Action::Bind("/usr".into(), Kind::Directory),
            directory("/data"),
            directory("/data/a"),
            directory("/data/a/b"),
        ]
    );
}

#[test]
fn r14_siblings_of_a_directory_above_are_bound_and_its_mode_is_kept() {
    let tree =
        model(&["/usr", "/usr/local", "/usr/local/bin", "/usr/lib"], &["/usr/local/x.txt"], &[]);
    assert_eq!(
        plan(&[missing("/usr/local/x/y", Kind::Directory)], &tree).unwrap(),
        [
            Action::Directory("/usr".into(), 0o700),
            Action::Bind("/usr/lib".into(), Kind::Directory),
            Action::Directory("/usr/local".into(), 0o700),
            Action::Bind("/usr/local/bin".into(), Kind::Directory),
            Action::Bind("/usr/local/x.txt".into(), Kind::File),
            directory("/usr/local/x"),
            directory("/usr/local/x/y"),
        ]
    );
}

#[test]
fn what_will_be_covered_is_made_but_not_bound() {
    let tree = model(&["/proc", "/etc"], &["/etc/hosts"], &[]);
    let places = [
        present("/proc", Kind::Directory),
        present("/etc/hosts", Kind::File),
        missing("/etc/passwd", Kind::File),
    ];
    assert_eq!(
        plan(&places, &tree).unwrap(),
        [
            Action::Directory("/etc".into(), 0o700),
            Action::File("/etc/hosts".into()),
            directory("/proc"),
            Action::File("/etc/passwd".into()),
        ]
    );
}

#[test]
fn a_link_that_leads_nowhere_gives_way_to_the_mount_point() {
    let tree = model(&["/etc"], &[], &["/etc/resolv.conf", "/data"]);
    let places = [missing("/etc/resolv.conf", Kind::File), missing("/data/x", Kind::Directory)];
    assert_eq!(
        plan(&places, &tree).unwrap(),
        [
            Action::Directory("/etc".into(), 0o700),
            directory("/data"),
            Action::File("/etc/resolv.conf".into()),
            directory("/data/x"),
        ]
    );
}

#[test]
fn a_place_above_another_is_made_once_and_cannot_be_a_file() {
    let tree = model(&[], &[], &[]);
    let both = [missing("/a/b", Kind::Directory), missing("/a", Kind::Directory)];
    assert_eq!(plan(&both, &tree).unwrap(), [directory("/a"), directory("/a/b")]);
    let clash = [missing("/a/b", Kind::Directory), missing("/a", Kind::File)];
    assert_eq!(plan(&clash, &tree).unwrap_err().problem, Problem::WrongKind(Kind::File));
}

#[test]
fn a_huge_directory_is_refused() {
    let names: Vec<String> = (0..600).map(|n| format!("/bin/{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tree = model(&["/bin"], &names, &[]);
    let error = plan(&[missing("/bin/new", Kind::File)], &tree).unwrap_err();
    assert_eq!(error.problem, Problem::TooManyEntries);
    assert!(plan(&[missing("/new", Kind::File)], &tree).is_ok());
}

proptest! {
    #[test]
    fn every_plan_makes_parents_first_each_path_once_and_every_place(
        paths in proptest::collection::btree_set("(/[a-c]){1,4}", 0..12),
        places in proptest::collection::vec("(/[a-d]){1,4}", 1..5),
    ) {
        let mut tree = model(&[], &[], &[]);
        for path in &paths {
            let mut above = path.as_str();
            while above != "/" {
                tree.0.insert(above.into(), EntryKind::Directory);
                above = parent(above);
            }
        }
        let places: Vec<(Place, Kind)> = places
            .iter()
            .map(|path| {
                let found = tree.0.contains_key(path).then_some(Kind::Directory);
                (Place { path: path.clone(), found }, Kind::Directory)
            })
            .collect();
        let actions = plan(&places, &tree).unwrap();
        let mut made = vec![String::from("/")];
        for action in &actions {
            let (Action::Directory(path, _) | Action::File(path) | Action::Link(path) | Action::Bind(path, _)) = action;
            prop_assert!(made.contains(&parent(path).into()), "{path} comes before what is above it");
            prop_assert!(!made.contains(path), "{path} is made twice");
            if matches!(action, Action::Directory(..)) { made.push(path.clone()); }
        }
        for (place, _) in places.iter().filter(|(place, _)| place.found.is_none()) {
            prop_assert!(made.contains(&place.path));
        }
    }
}
