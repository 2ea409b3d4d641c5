//! What upper layers make of lower ones: types that change, content that nobody can reach any more, what Linux allows.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod archive;
mod image;

use archive::{Header, Tar};
use image::{FoundKind, convert_tars, is_file, kind, listing, names, unsquash};

#[test]
fn c11_types_change_from_layer_to_layer() {
    let lower = Tar::default()
        .file("file-dir", 0o644, b"f")
        .dir("dir-file", 0o755)
        .file("dir-file/x", 0o644, b"x")
        .symlink("link-dir", "dir-file")
        .dir("dir-link", 0o755)
        .file("dir-link/y", 0o644, b"y")
        .file("file-implicit", 0o644, b"f")
        .file("file-link", 0o644, b"f")
        .symlink("link-file", "file-link")
        .finish();
    let upper = Tar::default()
        .dir("file-dir", 0o755)
        .file("dir-file", 0o644, b"now a file")
        .dir("link-dir", 0o755)
        .file("link-dir/z", 0o644, b"z")
        .symlink("dir-link", "/nowhere")
        .file("file-implicit/inside", 0o644, b"i")
        .symlink("file-link", "dir-file")
        .file("link-file", 0o644, b"a file")
        .finish();
    let found = listing(&[lower, upper]);
    let expected = [
        "",
        "dir-file",
        "dir-link",
        "file-dir",
        "file-implicit",
        "file-implicit/inside",
        "file-link",
        "link-dir",
        "link-dir/z",
        "link-file",
    ];
    assert_eq!(names(&found), expected);
    assert!(is_file(&found, "dir-file", b"now a file") && is_file(&found, "link-file", b"a file"));
    assert_eq!(kind(&found, "file-link"), FoundKind::Symlink(b"dir-file".to_vec()));
}

#[test]
fn c11_every_type_replaces_every_other_within_a_layer_and_across_layers() {
    let put = |tar: Tar, which: usize| match which {
        0 => tar.file("x", 0o644, b"file"),
        1 => tar.dir("x", 0o755).file("x/inside", 0o644, b"i"),
        2 => tar.symlink("x", "elsewhere"),
        3 => tar.special(b'6', "x"),
        _ => tar.file("x/implicit", 0o644, b"m"),
    };
    for (first, second) in (0..5).flat_map(|first| (0..5).map(move |second| (first, second))) {
        let below = put(Tar::default(), first);
        let together = put(below.clone(), second).finish();
        let apart = [below.finish(), put(Tar::default(), second).finish()];
        let found = listing(&apart);
        assert_eq!(found, listing(&[together]), "{first} then {second}");
        let mut expected = match second {
            0 | 2 => vec!["", "x"],
            1 => vec!["", "x", "x/inside"],
            3 => vec![""],
            _ => vec!["", "x", "x/implicit"],
        };
        match (first, second) {
            // Directories are merged, whether they have an entry or not.
            (1, 4) => expected.push("x/inside"),
            (4, 1) => expected.insert(2, "x/implicit"),
            // What is put below a link is put where it leads.
            (2, 4) => expected = vec!["", "elsewhere", "elsewhere/implicit", "x"],
            _ => {}
        }
        assert_eq!(names(&found), expected, "{first} then {second}");
    }
}

#[test]
fn c11_the_root_can_only_be_a_directory() {
    for tar in [
        Tar::default().file("./", 0o644, b"x"),
        Tar::default().symlink("/", "etc"),
        Tar::default().special(b'6', ".."),
    ] {
        let error = convert_tars(&[tar.finish()]).unwrap_err();
        assert!(format!("{error:?}").contains("RootNotDirectory"), "{error:?}");
    }
    let found = listing(&[Tar::default().dir("./", 0o700).finish()]);
    assert_eq!((found[&b""[..]].mode, found[&b""[..]].mtime), (0o755, 1_600_000_000));
}

#[test]
fn what_linux_allows_is_kept() {
    let name = "n".repeat(255);
    let target = "t".repeat(4095);
    let deep = "d/".repeat(1000);
    let tar = Tar::default()
        .file(&name, 0o644, b"long")
        .symlink("link", &target)
        .dir(&deep, 0o755)
        .entry(Header::new(b'0', b"latin-\xe9\n", 0o644, 0), b"", b"")
        .finish();
    let (file, summary) = convert_tars(&[tar]).unwrap();
    assert_eq!(summary.directories, 1000);
    let found = unsquash(file.path());
    assert!(found.contains_key(name.as_bytes()));
    assert!(found.contains_key(&b"latin-\xe9\n"[..]));
    assert_eq!(kind(&found, "link"), FoundKind::Symlink(target.into_bytes()));
}

#[test]
fn content_that_is_kept_without_need_leaves_a_valid_image() {
    // What a link leads to cannot be known while the layer below is written, so its content is written for nothing.
    let lower = (0..100).fold(Tar::default().symlink("d", "."), |tar, n| {
        tar.file(&format!("f{n}"), 0o644, &vec![n; 60_000])
    });
    let upper = Tar::default().file("d/.wh..wh..opq", 0, b"").finish();
    let (file, summary) = convert_tars(&[lower.finish(), upper]).unwrap();
    assert_eq!(summary.entries, 0);
    assert_eq!(names(&unsquash(file.path())), [""]);
}

#[test]
fn content_that_upper_layers_hide_is_not_written_but_what_hard_links_need_is() {
    let noise = |seed: u64| {
        let mut state = seed;
        let step = |state: &mut u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (*state >> 56) as u8
        };
        (0..500_000).map(|_| step(&mut state)).collect::<Vec<u8>>()
    };
    let lower = Tar::default()
        .dir("d", 0o755)
        .file("d/gone", 0o644, &noise(1))
        .file("d/replaced", 0o644, &noise(2))
        .file("d/linked-here", 0o644, &noise(3))
        .hard_link("kept", "d/linked-here")
        .file("linked-above", 0o644, &noise(4))
        .file("d/same", 0o644, &noise(5))
        .file("same", 0o644, &noise(5))
        .finish();
    let middle = Tar::default().hard_link("above", "linked-above").finish();
    let upper = Tar::default()
        .file("d/.wh..wh..opq", 0, b"")
        .file("d/replaced", 0o644, b"new")
        .file(".wh.linked-above", 0, b"")
        .finish();
    let (file, summary) = convert_tars(&[lower, middle, upper]).unwrap();
    let found = unsquash(file.path());
    assert_eq!(names(&found), ["", "above", "d", "d/replaced", "kept", "same"]);
    for (name, seed) in [("kept", 3), ("above", 4), ("same", 5)] {
        assert!(is_file(&found, name, &noise(seed)), "{name}");
    }
    assert!((1_500_000..1_520_000).contains(&summary.bytes), "{}", summary.bytes);
}
