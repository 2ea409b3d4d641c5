//! Layers made to do harm, or that other programs stumble over.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod archive;
mod image;

use std::path::Path;

use archive::{Header, Tar};
use image::{FoundKind, Listing, convert_layers, convert_tars, digest, layer, unsquash};
use oci_layers::{
    Compression, ConvertError, EntryError, LayerError, Limit, Limits, Options, Skipped,
};

fn listing(tars: &[Vec<u8>]) -> Listing {
    let (file, _) = convert_tars(tars).unwrap();
    unsquash(file.path())
}

fn names(listing: &Listing) -> Vec<String> {
    listing.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

fn content(listing: &Listing, name: &str) -> FoundKind {
    listing[name.as_bytes()].kind.clone()
}

fn is_file(listing: &Listing, name: &str, data: &[u8]) -> bool {
    matches!(&listing[name.as_bytes()].kind, FoundKind::File(size, found, _)
        if *size == data.len() as u64 && *found == digest(data))
}

fn limit_of(error: ConvertError) -> Limit {
    assert!(error.is_limit(), "{error:?}");
    match error {
        ConvertError::Layer { source: LayerError::Limit(exceeded), .. }
        | ConvertError::Layer {
            source: LayerError::Entry { source: EntryError::Limit(exceeded), .. },
            ..
        } => exceeded.limit,
        other => panic!("{other:?}"),
    }
}

fn with_limits(tar: Vec<u8>, limits: Limits) -> ConvertError {
    let options = Options { limits, ..Options::default() };
    convert_layers(vec![layer(&tar, Compression::Gzip)], &options).unwrap_err()
}

#[test]
fn names_with_dots_and_absolute_names_stay_inside() {
    let tar = Tar::default()
        .file("../../../etc/passwd", 0o644, b"up")
        .file("/etc/shadow", 0o644, b"absolute")
        .file("a/../../b", 0o644, b"mixed")
        .file("foo..bar", 0o644, b"dots in a name")
        .finish();
    let found = listing(&[tar]);
    assert_eq!(names(&found), ["", "b", "etc", "etc/passwd", "etc/shadow", "foo..bar"]);
    assert!(!Path::new("/etc/shadow.gantry").exists());
}

#[test]
fn a_file_through_a_symbolic_link_lands_where_the_link_leads_inside_the_image() {
    let tar = Tar::default()
        .symlink("absolute", "/real")
        .symlink("climbing", "../../../../real")
        .symlink("chain", "absolute/deeper")
        .file("absolute/one", 0o644, b"1")
        .file("climbing/two", 0o644, b"2")
        .file("chain/three", 0o644, b"3")
        .finish();
    let found = listing(&[tar]);
    assert_eq!(
        names(&found),
        [
            "",
            "absolute",
            "chain",
            "climbing",
            "real",
            "real/deeper",
            "real/deeper/three",
            "real/one",
            "real/two"
        ]
    );
}

#[test]
fn a_ring_of_symbolic_links_is_an_error_that_names_the_entry() {
    let tar = Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", 0o644, b"").finish();
    let error = convert_tars(&[tar]).unwrap_err();
    let ConvertError::Layer { index: 0, source: LayerError::Entry { path, source }, .. } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!((path.to_string().as_str(), source), ("/a/x", EntryError::LinkLoop));
}

#[test]
fn a_hard_link_to_something_that_is_not_in_the_image_names_layer_and_entry() {
    for target in ["../../etc/passwd", "/etc/passwd", "missing", "dir/missing"] {
        let lower = Tar::default().dir("dir", 0o755).finish();
        let upper = Tar::default().hard_link("link", target).finish();
        let error = convert_tars(&[lower, upper]).unwrap_err();
        assert!(error.to_string().starts_with("layer 2 (sha256:"), "{error}");
        let ConvertError::Layer { index: 1, source: LayerError::Entry { path, source }, .. } =
            error
        else {
            panic!("{error:?}")
        };
        assert_eq!(path.to_string(), "/link");
        assert!(matches!(source, EntryError::LinkTargetMissing { .. }), "{source:?}");
    }
}

#[test]
fn a_hard_link_to_a_symbolic_link_is_that_link_and_one_to_a_directory_is_an_error() {
    let tar = Tar::default().symlink("s", "/etc/passwd").hard_link("h", "s").finish();
    let found = listing(&[tar]);
    assert_eq!(content(&found, "h"), FoundKind::Symlink(b"/etc/passwd".to_vec()));

    for target in ["d", "/", ".."] {
        let tar = Tar::default().dir("d", 0o755).hard_link("h", target).finish();
        let error = convert_tars(&[tar]).unwrap_err();
        assert!(format!("{error:?}").contains("LinkToDirectory"), "{error:?}");
    }
}

#[test]
fn whiteouts_outside_the_root_or_of_nothing_do_no_harm() {
    let lower = Tar::default().file("keep", 0o644, b"k").dir("d", 0o755).file("d/x", 0o644, b"x");
    let upper = Tar::default()
        .file("../../.wh.nothing", 0, b"")
        .file("d/.wh...", 0, b"")
        .file("d/.wh..", 0, b"")
        .file(".wh.", 0, b"")
        .file("missing/.wh.x", 0, b"")
        .file("keep/.wh.x", 0, b"")
        .file(".wh..wh.plnk/1.2", 0, b"")
        .finish();
    let found = listing(&[lower.finish(), upper]);
    assert_eq!(names(&found), ["", "d", "d/x", "keep"]);
}

#[test]
fn a_whiteout_through_a_link_removes_what_the_link_leads_to() {
    let lower = Tar::default()
        .dir("real", 0o755)
        .file("real/gone", 0o644, b"g")
        .file("real/stays", 0o644, b"s")
        .symlink("way", "/real")
        .symlink("itself", "real")
        .finish();
    let upper = Tar::default().file("way/.wh.gone", 0, b"").file(".wh.itself", 0, b"").finish();
    assert_eq!(names(&listing(&[lower, upper])), ["", "real", "real/stays", "way"]);
}

#[test]
fn an_opaque_directory_hides_the_layers_below_and_nothing_of_its_own() {
    let lower = Tar::default().dir("d", 0o700).file("d/old", 0o644, b"o").dir("d/sub", 0o755);
    let upper = Tar::default()
        .file("d/new", 0o644, b"n")
        .file("d/.wh..wh..opq", 0, b"")
        .file("d/sub/also", 0o644, b"a")
        .finish();
    let found = listing(&[lower.finish(), upper]);
    assert_eq!(names(&found), ["", "d", "d/new", "d/sub", "d/sub/also"]);
}

#[test]
fn a_whiteout_hides_a_lower_file_but_not_one_of_its_own_layer() {
    let lower = Tar::default().file("a", 0o644, b"old").file("b", 0o644, b"old").finish();
    let upper = Tar::default()
        .file("a", 0o644, b"new")
        .file(".wh.a", 0, b"")
        .file(".wh.b", 0, b"")
        .finish();
    let found = listing(&[lower, upper]);
    assert_eq!(names(&found), ["", "a"]);
    assert!(is_file(&found, "a", b"new"));
}

#[test]
fn devices_and_fifos_are_left_out_and_counted_and_still_replace_what_was_there() {
    let lower = Tar::default().dir("dev", 0o755).file("dev/null", 0o644, b"regular").finish();
    let upper = Tar::default()
        .special(b'3', "dev/null")
        .special(b'4', "dev/sda")
        .special(b'6', "pipe")
        .hard_link("dev/again", "dev/null")
        .finish();
    let (file, summary) = convert_tars(&[lower, upper]).unwrap();
    assert_eq!(names(&unsquash(file.path())), ["", "dev"]);
    assert_eq!(summary.skipped, Skipped { devices: 3, fifos: 1 });
    assert_eq!(summary.entries, 1);
}

#[test]
fn set_id_bits_capabilities_and_owners_are_not_published() {
    let tar = Tar::default()
        .file("su", 0o6755, b"program")
        .pax(&[(
            "SCHILY.xattr.security.capability",
            b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        )])
        .file("ping", 0o711, b"program 2")
        .dir("private", 0o2700)
        .file("private/key", 0o600, b"secret")
        .dir("tmp", 0o1777)
        .finish();
    let found = listing(&[tar]);
    for (name, mode) in [
        ("", 0o755),
        ("su", 0o755),
        ("ping", 0o755),
        ("private", 0o755),
        ("private/key", 0o644),
        ("tmp", 0o1777),
    ] {
        let entry = &found[name.as_bytes()];
        assert_eq!((entry.mode, entry.owner), (mode, (0, 0)), "{name}");
    }
}

#[test]
fn sparse_files_beyond_all_bounds_are_over_a_limit_or_malformed() {
    let size = i64::MAX.to_string();
    let pax = Tar::default()
        .pax(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", size.as_bytes())])
        .header(Header::new(b'0', b"sparse", 0o644, 1))
        .data(b"x")
        .finish();
    assert_eq!(limit_of(convert_tars(&[pax]).unwrap_err()), Limit::FileBytes);

    let mut header = Header::new(b'S', b"sparse", 0o644, 1);
    header.number(386, 12, i64::MAX - 1);
    header.number(398, 12, 1);
    header.number(483, 12, i64::MAX);
    let old = Tar::default().header(header).data(b"x").finish();
    assert_eq!(limit_of(convert_tars(&[old]).unwrap_err()), Limit::FileBytes);

    let mut endless = Header::new(b'S', b"sparse", 0o644, 0);
    endless.put(482, b"\x01");
    let mut bytes = Tar::default().header(endless).bytes;
    let mut more = [0; 512];
    more[504] = 1;
    bytes.extend(more);
    assert!(convert_tars(&[bytes]).is_err());
}

#[test]
fn entries_are_counted_over_all_layers() {
    let tar = |prefix: &str| {
        let name = |n| format!("{prefix}{n}");
        (0..10).fold(Tar::default(), |tar, n| tar.file(&name(n), 0o644, b"")).finish()
    };
    let with = |entries| {
        let limits = Limits { entries, ..Limits::default() };
        let layers = ["a", "b"].map(|prefix| layer(&tar(prefix), Compression::None)).into();
        convert_layers(layers, &Options { limits, ..Options::default() })
    };
    assert!(with(20).is_ok());
    assert_eq!(limit_of(with(19).unwrap_err()), Limit::Entries);
}

#[test]
fn long_names_deep_paths_and_long_targets_name_their_limit() {
    let limits = Limits::default;
    let file = |name: &str| Tar::default().file(name, 0o644, b"").finish();
    assert_eq!(limit_of(with_limits(file(&"d/".repeat(5000)), limits())), Limit::PathBytes);
    assert_eq!(limit_of(with_limits(file(&"d/".repeat(1500)), limits())), Limit::Depth);
    assert_eq!(limit_of(with_limits(file(&"n".repeat(256)), limits())), Limit::NameBytes);
    let link = Tar::default().symlink("link", &"t".repeat(5000)).finish();
    assert_eq!(limit_of(with_limits(link, limits())), Limit::SymlinkBytes);
    let huge = Tar::default().header(Header::new(b'x', b"pax", 0, 8 << 20)).data(&[b'x'; 1024]);
    assert_eq!(limit_of(with_limits(huge.finish(), limits())), Limit::HeaderBytes);
}

#[test]
fn links_do_not_lead_deeper_than_the_limit() {
    let tar = Tar::default()
        .dir(&"d/".repeat(1000), 0o755)
        .symlink("way", &"d/".repeat(1000))
        .dir(&format!("way/{}", "e/".repeat(100)), 0o755)
        .finish();
    assert_eq!(limit_of(with_limits(tar, Limits::default())), Limit::Depth);
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
    assert_eq!(content(&found, "link"), FoundKind::Symlink(target.into_bytes()));
}

#[test]
fn types_change_from_layer_to_layer() {
    let lower = Tar::default()
        .file("file-dir", 0o644, b"f")
        .dir("dir-file", 0o755)
        .file("dir-file/x", 0o644, b"x")
        .symlink("link-dir", "dir-file")
        .dir("dir-link", 0o755)
        .file("dir-link/y", 0o644, b"y")
        .file("file-implicit", 0o644, b"f")
        .finish();
    let upper = Tar::default()
        .dir("file-dir", 0o755)
        .file("dir-file", 0o644, b"now a file")
        .dir("link-dir", 0o755)
        .file("link-dir/z", 0o644, b"z")
        .symlink("dir-link", "/nowhere")
        .file("file-implicit/inside", 0o644, b"i")
        .finish();
    let found = listing(&[lower, upper]);
    assert_eq!(
        names(&found),
        [
            "",
            "dir-file",
            "dir-link",
            "file-dir",
            "file-implicit",
            "file-implicit/inside",
            "link-dir",
            "link-dir/z"
        ]
    );
    assert!(is_file(&found, "dir-file", b"now a file"));
}

#[test]
fn ids_and_times_out_of_range_are_published_as_root_and_clamped() {
    let mut header = Header::new(b'0', b"ids", 0o644, 0).mtime(-1_000_000);
    header.number(108, 8, 0x8000_0001);
    header.number(116, 8, -1);
    let tar = Tar::default()
        .header(header)
        .header(Header::new(b'0', b"future", 0o644, 0).mtime(1 << 40))
        .pax(&[("mtime", b"1234567890.9"), ("uid", b"99999999999"), ("gid", b"x")])
        .file("pax", 0o644, b"")
        .finish();
    let found = listing(&[tar]);
    for (name, mtime) in [("ids", 0), ("future", i64::from(u32::MAX)), ("pax", 1_234_567_890)] {
        let entry = &found[name.as_bytes()];
        assert_eq!((entry.mtime, entry.owner), (mtime, (0, 0)), "{name}");
    }
}

#[test]
fn a_link_followed_by_a_directory_entry_changes_no_mode_behind_the_link() {
    let lower = Tar::default().dir("target", 0o755).symlink("d", "target").finish();
    let upper = Tar::default().symlink("e", "target").dir("e", 0o777).dir("d", 0o777).finish();
    let found = listing(&[lower, upper]);
    assert_eq!(found[&b"target"[..]].mode, 0o755);
    assert_eq!((content(&found, "d"), found[&b"d"[..]].mode), (FoundKind::Directory, 0o777));
    assert_eq!(content(&found, "e"), FoundKind::Directory);
}

#[test]
fn the_root_can_only_be_a_directory() {
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
