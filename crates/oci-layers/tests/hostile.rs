//! Layers made to reach outside the image: names, links, whiteouts, kinds and modes.
//!
//! Named after the cases of SECURITY.md. All of it is resolved in a model, so "outside" can only be looked for in the
//! image itself: an entry that stood for anything else would be missing there, or be one too many.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod archive;
mod image;

use archive::Tar;
use image::{FoundKind, convert_tars, is_file, kind, listing, names, unsquash};
use oci_layers::{ConvertError, EntryError, LayerError, Skipped};

#[test]
fn c01_names_with_dots_and_absolute_names_stay_inside() {
    let tar = Tar::default()
        .file("../../../etc/passwd", 0o644, b"up")
        .file("/etc/shadow", 0o644, b"absolute")
        .file("a/../../b", 0o644, b"mixed")
        .file("foo..bar", 0o644, b"dots in a name")
        .pax(&[("path", b"../../pax")])
        .file("x", 0o644, b"by a PAX record")
        .file(&format!("{}long", "../".repeat(60)), 0o644, b"by a GNU long name")
        .finish();
    let found = listing(&[tar]);
    let expected = ["", "b", "etc", "etc/passwd", "etc/shadow", "foo..bar", "long", "pax"];
    assert_eq!(names(&found), expected);
    assert!(is_file(&found, "etc/passwd", b"up"));
}

#[test]
fn c02_a_file_through_a_symbolic_link_lands_where_the_link_leads_inside_the_image() {
    let tar = Tar::default()
        .symlink("absolute", "/real")
        .symlink("climbing", "../../../../real")
        .symlink("chain", "absolute/deeper")
        .file("absolute/one", 0o644, b"1")
        .file("climbing/two", 0o644, b"2")
        .file("chain/three", 0o644, b"3")
        .finish();
    let expected = [
        "",
        "absolute",
        "chain",
        "climbing",
        "real",
        "real/deeper",
        "real/deeper/three",
        "real/one",
        "real/two",
    ];
    assert_eq!(names(&listing(&[tar])), expected);
}

#[test]
fn c02_a_file_in_place_of_a_symbolic_link_replaces_the_link_and_not_what_it_leads_to() {
    let lower = Tar::default().file("target", 0o644, b"kept").symlink("link", "target").finish();
    let upper = Tar::default().file("link", 0o644, b"new").finish();
    let found = listing(&[lower, upper]);
    assert!(is_file(&found, "link", b"new") && is_file(&found, "target", b"kept"));
}

#[test]
fn c02_a_ring_of_symbolic_links_is_an_error_that_names_the_entry() {
    let tar = Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", 0o644, b"").finish();
    let (path, source) = entry_error(convert_tars(&[tar]).unwrap_err(), 0);
    assert_eq!((path.as_str(), source), ("/a/x", EntryError::LinkLoop));
}

#[test]
fn c03_a_hard_link_to_something_that_is_not_in_the_image_names_layer_and_entry() {
    for target in ["../../etc/passwd", "/etc/passwd", "missing", "dir/missing"] {
        let lower = Tar::default().dir("dir", 0o755).finish();
        let upper = Tar::default().hard_link("link", target).finish();
        let error = convert_tars(&[lower, upper]).unwrap_err();
        assert!(error.to_string().starts_with("layer 2 (sha256:"), "{error}");
        let (path, source) = entry_error(error, 1);
        assert_eq!(path, "/link");
        assert!(matches!(source, EntryError::LinkTargetMissing { .. }), "{source:?}");
    }
}

#[test]
fn c03_a_hard_link_outside_is_one_to_the_same_name_inside() {
    let tar = Tar::default()
        .file("etc/passwd", 0o644, b"the image's")
        .hard_link("link", "../../../etc/passwd")
        .finish();
    let found = listing(&[tar]);
    assert!(is_file(&found, "link", b"the image's"));
    assert_eq!(kind(&found, "link"), kind(&found, "etc/passwd"));
    assert_eq!(found[&b"link"[..]].links, 2);
}

#[test]
fn c03_a_hard_link_to_a_symbolic_link_is_that_link_and_one_to_a_directory_is_an_error() {
    let tar = Tar::default().symlink("s", "/etc/passwd").hard_link("h", "s").finish();
    assert_eq!(kind(&listing(&[tar]), "h"), FoundKind::Symlink(b"/etc/passwd".to_vec()));

    for target in ["d", "/", ".."] {
        let tar = Tar::default().dir("d", 0o755).hard_link("h", target).finish();
        let (_, source) = entry_error(convert_tars(&[tar]).unwrap_err(), 0);
        assert!(matches!(source, EntryError::LinkToDirectory { .. }), "{source:?}");
    }
}

#[test]
fn c03_a_hard_link_to_a_name_that_a_later_layer_replaces_keeps_what_it_linked_to() {
    let lower = Tar::default().file("target", 0o644, b"old").hard_link("link", "target").finish();
    let upper = Tar::default().file("target", 0o644, b"new").finish();
    let found = listing(&[lower, upper]);
    assert!(is_file(&found, "link", b"old") && is_file(&found, "target", b"new"));
    assert_eq!(found[&b"link"[..]].links, 1);
}

#[test]
fn c04_whiteouts_outside_the_root_or_of_nothing_do_no_harm() {
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
    assert_eq!(names(&listing(&[lower.finish(), upper])), ["", "d", "d/x", "keep"]);
}

#[test]
fn c04_a_whiteout_above_the_root_is_one_below_it() {
    let lower = Tar::default().file("x", 0o644, b"x").file("d/y", 0o644, b"y").finish();
    let upper = Tar::default().file("../.wh.x", 0, b"").file("/d/../../d/.wh.y", 0, b"").finish();
    assert_eq!(names(&listing(&[lower, upper])), ["", "d"]);
}

#[test]
fn c04_a_whiteout_through_a_link_removes_what_the_link_leads_to() {
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
fn c04_an_opaque_directory_hides_the_layers_below_and_nothing_of_its_own() {
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
fn c04_a_whiteout_hides_a_lower_file_but_not_one_of_its_own_layer() {
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
fn c05_devices_and_fifos_are_left_out_and_counted_and_still_replace_what_was_there() {
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
fn c05_an_entry_of_a_kind_that_no_layer_has_is_refused() {
    // Sockets cannot stand in an archive; `s` is what some programs wrote all the same.
    for kind in [b's', b'8', b'D', b'V', b'M', 0xff] {
        let tar = Tar::default().special(kind, "odd").finish();
        let error = image::chain(&convert_tars(&[tar]).unwrap_err());
        assert!(error.contains("there is no entry type"), "{error}");
    }
}

#[test]
fn c06_set_id_bits_capabilities_and_owners_are_not_published() {
    let capability: (&str, &[u8]) =
        ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let label: (&str, &[u8]) = ("SCHILY.xattr.security.selinux", b"system_u:object_r:bin_t:s0");
    let tar = Tar::default()
        .file("su", 0o6755, b"program")
        .pax(&[capability, label, ("SCHILY.xattr.user.note", b"n")])
        .file("ping", 0o711, b"program 2")
        .dir("private", 0o2700)
        .file("private/key", 0o600, b"secret")
        .dir("tmp", 0o1777)
        .finish();
    let (file, _) = convert_tars(&[tar]).unwrap();
    let found = unsquash(file.path());
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
    assert_eq!(xattr_table(file.path()), u64::MAX, "there is a table of extended attributes");
}

#[test]
fn c14_a_link_followed_by_a_directory_entry_changes_no_mode_behind_the_link() {
    let lower = Tar::default().dir("target", 0o755).symlink("d", "target").finish();
    let upper = Tar::default().symlink("e", "target").dir("e", 0o777).dir("d", 0o777).finish();
    let found = listing(&[lower, upper]);
    assert_eq!(found[&b"target"[..]].mode, 0o755);
    assert_eq!((kind(&found, "d"), found[&b"d"[..]].mode), (FoundKind::Directory, 0o777));
    assert_eq!(kind(&found, "e"), FoundKind::Directory);
}

#[test]
fn c14_a_link_to_the_root_or_out_of_it_followed_by_a_directory_entry_changes_no_mode() {
    let tar = Tar::default()
        .dir("./", 0o755)
        .symlink("up", "../../..")
        .dir("up", 0o1777)
        .symlink("root", "/")
        .dir("root/", 0o1777)
        .finish();
    let found = listing(&[tar]);
    assert_eq!(names(&found), ["", "root", "up"]);
    assert_eq!(found[&b""[..]].mode, 0o755);
}

/// The path and the reason of an entry of layer `layer` that cannot be applied.
fn entry_error(error: ConvertError, layer: usize) -> (String, EntryError) {
    match error {
        ConvertError::Layer { index, source: LayerError::Entry { path, source }, .. }
            if index == layer =>
        {
            (path.to_string(), source)
        }
        other => panic!("{other:?}"),
    }
}

/// The field of the superblock that says where the table of extended attributes stands, all ones if there is none.
fn xattr_table(image: &std::path::Path) -> u64 {
    let bytes = std::fs::read(image).unwrap();
    u64::from_le_bytes(bytes[56..64].try_into().unwrap())
}
