//! Images read back with squashfs-tools and the kernel.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use proptest::prelude::*;
use squashfs::{
    BlockEncoder, BlockSize, Compressor, Content, ContentId, DirectoryEntry, Extent, FragmentPart,
    Node, NodeId, NodeKind, Tree, WriteError, Writer,
};
use tempfile::NamedTempFile;

const BLOCK: usize = 4096;

/// An image in the making: a tree whose files have their content written at once.
struct Image {
    file: NamedTempFile,
    compressor: Compressor,
    tree: Tree,
    files: Vec<Vec<u8>>,
}

fn node(mode: u16, owner: u32, kind: NodeKind) -> Node {
    Node { mode, uid: owner, gid: owner / 2, mtime: 1_000_000 + owner, kind }
}

impl Image {
    fn new(compressor: Compressor) -> Self {
        let mut tree = Tree::default();
        tree.nodes.push(node(0o755, 0, NodeKind::Directory(Vec::new())));
        Self { file: NamedTempFile::new().unwrap(), compressor, tree, files: Vec::new() }
    }

    fn add(&mut self, parent: NodeId, name: &[u8], node: Node) -> NodeId {
        let id = NodeId(self.tree.nodes.len() as u32);
        self.tree.nodes.push(node);
        self.link(parent, name, id);
        id
    }

    fn link(&mut self, parent: NodeId, name: &[u8], node: NodeId) {
        let NodeKind::Directory(entries) = &mut self.tree.nodes[parent.0 as usize].kind else {
            panic!("not a directory")
        };
        let entry = DirectoryEntry { name: name.to_vec(), node };
        match entries.binary_search_by(|entry| entry.name.as_slice().cmp(name)) {
            Ok(at) => entries[at] = entry,
            Err(at) => entries.insert(at, entry),
        }
    }

    fn directory(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        self.add(parent, name, node(0o755, 0, NodeKind::Directory(Vec::new())))
    }

    fn file(&mut self, parent: NodeId, name: &[u8], data: &[u8]) -> NodeId {
        self.files.push(data.to_vec());
        let content = ContentId(self.files.len() as u32 - 1);
        self.add(parent, name, node(0o644, 0, NodeKind::File(content)))
    }

    /// Writes the image; every other file ends in a fragment, two to a block.
    fn finish(&mut self) -> Result<u64, WriteError> {
        let size = BlockSize::new(BLOCK as u32).unwrap();
        let mut writer = Writer::new(self.file.as_file(), self.compressor, size)?;
        let mut encoder = BlockEncoder::new(self.compressor)?;
        let mut tails: Vec<(usize, Vec<u8>)> = Vec::new();
        for (index, data) in self.files.iter().enumerate() {
            let tail = if index % 2 == 0 { data.len() % BLOCK } else { 0 };
            let (whole, tail) = data.split_at(data.len() - tail);
            let mut content = Content { size: data.len() as u64, ..Content::default() };
            let mut words = Vec::new();
            for chunk in whole.chunks(BLOCK) {
                let block = encoder.encode_data(chunk.to_vec())?;
                let start = writer.append(&block)?;
                if words.is_empty() {
                    content.start = start;
                }
                words.push(block.word);
            }
            content.extents.push(Extent::Data(words));
            self.tree.contents.push(content);
            if !tail.is_empty() {
                tails.push((index, tail.to_vec()));
            }
        }
        for pair in tails.chunks(2) {
            let mut bytes = Vec::new();
            let fitting: Vec<_> = pair
                .iter()
                .map(|(index, tail)| {
                    let offset = bytes.len() as u32;
                    bytes.extend_from_slice(tail);
                    (*index, offset)
                })
                .collect();
            if bytes.len() > BLOCK {
                for (index, tail) in pair {
                    let fragment = writer.add_fragment(&encoder.encode_fragment(tail.clone())?)?;
                    self.tree.contents[*index].fragment =
                        Some(FragmentPart { fragment, offset: 0 });
                }
                continue;
            }
            let fragment = writer.add_fragment(&encoder.encode_fragment(bytes)?)?;
            for (index, offset) in fitting {
                self.tree.contents[index].fragment = Some(FragmentPart { fragment, offset });
            }
        }
        writer.finish(&self.tree)
    }

    /// Unpacks the image with squashfs-tools.
    fn unpack(&self) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        let output = Command::new("unsquashfs")
            .args(["-no-progress", "-d"])
            .arg(&root)
            .arg(self.file.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (directory, root)
    }
}

fn error_of(change: impl FnOnce(&mut Image)) -> WriteError {
    let mut image = Image::new(Compressor::default());
    change(&mut image);
    let error = image.finish().unwrap_err();
    let magic = fs::read(image.file.path()).unwrap();
    assert!(!magic.starts_with(b"hsqs"), "what failed must not look like an image");
    error
}

#[test]
fn names_that_no_directory_can_have_are_refused() {
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; 256]] {
        let error = error_of(|image| {
            image.directory(NodeId::ROOT, name);
        });
        assert!(matches!(error, WriteError::Name { .. }), "{error:?}");
    }
}

#[test]
fn names_out_of_order_or_twice_are_refused() {
    for names in [["b", "a"], ["a", "a"]] {
        let error = error_of(|image| {
            image.file(NodeId::ROOT, b"x", b"");
            let entry = |name: &str| DirectoryEntry { name: name.into(), node: NodeId(1) };
            image.tree.nodes[0].kind = NodeKind::Directory(names.map(entry).into());
        });
        assert!(matches!(error, WriteError::Order { .. }), "{error:?}");
    }
}

#[test]
fn directories_with_two_names_or_inside_themselves_are_refused() {
    let twice = error_of(|image| {
        let directory = image.directory(NodeId::ROOT, b"a");
        image.link(NodeId::ROOT, b"b", directory);
    });
    let ring = error_of(|image| {
        let outer = image.directory(NodeId::ROOT, b"a");
        let inner = image.directory(outer, b"b");
        image.link(inner, b"c", outer);
    });
    let root = error_of(|image| image.link(NodeId::ROOT, b"self", NodeId::ROOT));
    for error in [twice, ring, root] {
        assert!(matches!(error, WriteError::DirectoryLinked { .. }), "{error:?}");
    }
}

#[test]
fn a_tree_that_names_what_does_not_exist_is_refused() {
    let no_node = error_of(|image| image.link(NodeId::ROOT, b"x", NodeId(77)));
    let no_content = error_of(|image| {
        image.add(NodeId::ROOT, b"x", node(0, 0, NodeKind::File(ContentId(5))));
    });
    for error in [no_node, no_content] {
        assert!(matches!(error, WriteError::Missing { .. }), "{error:?}");
    }
    let short = error_of(|image| {
        image.add(NodeId::ROOT, b"x", node(0, 0, NodeKind::File(ContentId(0))));
        let extents = vec![Extent::Hole(2)];
        image.tree.contents.push(Content { size: 3 * BLOCK as u64, extents, ..Content::default() });
    });
    assert!(matches!(short, WriteError::BlockCount { expected: 3, found: 2, .. }), "{short:?}");
}

#[test]
fn link_targets_that_linux_cannot_follow_are_refused() {
    for length in [0, 4096] {
        let error = error_of(|image| {
            let link = NodeKind::Symlink(vec![b't'; length]);
            image.add(NodeId::ROOT, b"x", node(0o777, 0, link));
        });
        assert!(matches!(error, WriteError::SymlinkTarget { .. }), "{error:?}");
    }
}

#[test]
fn more_ids_than_the_table_holds_are_refused() {
    let error = error_of(|image| {
        for owner in 0..65_536 {
            let link = NodeKind::Symlink(b"t".to_vec());
            image.add(NodeId::ROOT, format!("{owner:05}").as_bytes(), node(0o777, owner, link));
        }
    });
    assert!(matches!(error, WriteError::TooLarge { .. }), "{error:?}");
}

#[test]
fn depth_costs_no_stack() {
    let mut image = Image::new(Compressor::default());
    let mut at = NodeId::ROOT;
    for _ in 0..200_000 {
        at = image.directory(at, b"d");
    }
    image.finish().unwrap();
}

/// 3000 names of 200 bytes, so that the directory has an index.
fn large_directory() -> (Image, impl Fn(u32) -> String) {
    let mut image = Image::new(Compressor::default());
    let large = image.directory(NodeId::ROOT, b"large");
    let name = |n: u32| format!("{:0>200}", n * 3);
    for n in 0..3000 {
        image.file(large, name(n).as_bytes(), n.to_string().as_bytes());
    }
    image.finish().unwrap();
    (image, name)
}

#[test]
fn a_directory_of_many_long_names_is_listed_whole() {
    let (image, name) = large_directory();
    let (_directory, root) = image.unpack();
    assert_eq!(fs::read_dir(root.join("large")).unwrap().count(), 3000);
    assert_eq!(fs::read(root.join("large").join(name(2999))).unwrap(), b"2999");
}

#[test]
fn privileged_the_kernel_finds_every_name_through_the_index() {
    let (image, name) = large_directory();
    let target = tempfile::tempdir().unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "squashfs", "-o", "loop,ro"]).arg(image.file.path()).arg(target.path());
    // A loop device may be taken by someone else between choice and use.
    assert!((0..20).any(|_| mount.status().unwrap().success()), "cannot mount");
    let large = target.path().join("large");
    let wrong: Vec<u32> = (0..3000)
        .filter(|n| {
            fs::read(large.join(name(*n))).ok() != Some(n.to_string().into_bytes())
                || large.join(format!("{}x", name(*n))).exists()
        })
        .collect();
    assert!(Command::new("umount").arg("-l").arg(target.path()).status().unwrap().success());
    assert_eq!(wrong, []);
}

#[test]
fn an_image_ends_with_a_page_and_leaves_out_what_has_no_name() {
    let mut image = Image::new(Compressor::gzip(6).unwrap());
    image.tree.nodes.push(node(0o644, 3, NodeKind::File(ContentId(99))));
    fs::write(image.file.path(), vec![7; 100_000]).unwrap();
    assert_eq!(image.finish().unwrap(), 4096);
    assert_eq!(fs::metadata(image.file.path()).unwrap().len(), 4096);
    let (_directory, root) = image.unpack();
    assert_eq!(fs::read_dir(root).unwrap().count(), 0);
}

#[derive(Clone, Debug)]
enum Growth {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    HardLink(prop::sample::Index),
}

fn growth() -> impl Strategy<Value = (prop::sample::Index, Vec<u8>, u16, u32, Growth)> {
    let byte = any::<u8>().prop_map(|byte| if matches!(byte, 0 | b'/') { b'_' } else { byte });
    let name = prop::collection::vec(byte.clone(), 1..60)
        .prop_filter("a name", |name| !matches!(name.as_slice(), b"." | b".."));
    let data = (0..40_000_usize, any::<u8>(), 1..200_u32).prop_map(|(length, seed, step)| {
        (0..length as u32).map(|at| (at / step) as u8 ^ seed).collect()
    });
    let kind = prop_oneof![
        3 => Just(Growth::Directory),
        4 => data.prop_map(Growth::File),
        2 => prop::collection::vec(byte, 1..100).prop_map(Growth::Symlink),
        2 => any::<prop::sample::Index>().prop_map(Growth::HardLink),
    ];
    (any::<prop::sample::Index>(), name, 0..0o10000_u16, 0..70_000_u32, kind)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_comes_out_as_it_was(all in prop::collection::vec(growth(), 0..60), gzip in any::<bool>()) {
        let compressor = if gzip { Compressor::gzip(3).unwrap() } else { Compressor::default() };
        let mut image = Image::new(compressor);
        let mut directories = vec![(NodeId::ROOT, Vec::new())];
        let mut leaves: Vec<NodeId> = Vec::new();
        let mut names = std::collections::BTreeMap::new();
        for (place, name, mode, owner, growth) in all {
            let (parent, path) = place.get(&directories).clone();
            let path = [path, b"/".to_vec(), name.clone()].concat();
            if names.contains_key(&path) {
                continue;
            }
            let kind = match growth {
                Growth::Directory => NodeKind::Directory(Vec::new()),
                Growth::Symlink(target) => NodeKind::Symlink(target),
                Growth::File(data) => {
                    image.files.push(data);
                    NodeKind::File(ContentId(image.files.len() as u32 - 1))
                }
                Growth::HardLink(_) if leaves.is_empty() => continue,
                Growth::HardLink(target) => {
                    let node = *target.get(&leaves);
                    image.link(parent, &name, node);
                    names.insert(path, node);
                    continue;
                }
            };
            let is_directory = matches!(kind, NodeKind::Directory(_));
            let id = image.add(parent, &name, node(mode, owner, kind));
            names.insert(path.clone(), id);
            if is_directory {
                directories.push((id, path));
            } else {
                leaves.push(id);
            }
        }
        image.finish().unwrap();
        let (_directory, root) = image.unpack();
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        for (path, id) in &names {
            let path = root.join(std::ffi::OsStr::from_bytes(&path[1..]));
            let node = &image.tree.nodes[id.0 as usize];
            let found = fs::symlink_metadata(&path).unwrap();
            if is_root {
                prop_assert_eq!((found.uid(), found.gid()), (node.uid, node.gid));
            }
            match &node.kind {
                NodeKind::Symlink(target) => {
                    let read = fs::read_link(&path).unwrap();
                    prop_assert_eq!(read.as_os_str().as_bytes(), target.as_slice());
                }
                NodeKind::File(content) => {
                    let links = names.values().filter(|other| *other == id).count() as u64;
                    prop_assert_eq!(found.nlink(), links);
                    prop_assert_eq!(found.mtime(), i64::from(node.mtime));
                    if is_root {
                        prop_assert_eq!(found.mode() & 0o7777, u32::from(node.mode));
                        prop_assert!(fs::read(&path).unwrap() == image.files[content.0 as usize]);
                    }
                }
                NodeKind::Directory(_) => prop_assert!(found.is_dir()),
            }
        }
        let count = Command::new("find").arg(&root).args(["-printf", "x"]).output().unwrap();
        prop_assert_eq!(count.stdout.len(), names.len() + 1);
    }
}
