//! Volumes: Shifter's own cases (its test_VolumeMap.cpp), ours where Gantry differs, and hostile texts.

use super::*;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use proptest::prelude::*;

fn user(item: &str) -> Result<Volume, Reason> {
    Volume::parse(item, Origin::User).map_err(|error| error.reason)
}

fn site(text: &str) -> Vec<Volume> {
    parse_list(text, Origin::Site).unwrap()
}

#[test]
fn shifters_good_user_volumes_are_accepted() {
    let text = "/path1/is/here:/target1;/scratch1/test:/input:ro;/scratch1/output:/output";
    let volumes = parse_list(text, Origin::User).unwrap();
    assert_eq!(volumes.len(), 3);
    assert!(volumes[1].flags.read_only && !volumes[2].flags.read_only);
    assert_eq!(
        canonical(&volumes),
        "/path1/is/here:/target1;/scratch1/output:/output;/scratch1/test:/input:ro"
    );
}

#[test]
fn shifters_bad_user_volumes_are_refused() {
    for (item, reason) in [
        ("/evilPath:/etc", Reason::Target("/etc".into())),
        ("/a:/b:rec", Reason::SiteFlag("rec".into())),
        ("/no/to/specified", Reason::NoTarget),
    ] {
        assert_eq!(user(item), Err(reason), "{item}");
    }
    for target in ["/etc/passwd", "/var/log", "/opt"] {
        assert_eq!(user(&format!("/a:{target}")), Err(Reason::Target(target.into())));
    }
    for target in ["opt", "etc", ""] {
        assert_eq!(user(&format!("/a:{target}")), Err(Reason::NotAbsolute(target.into())));
    }
}

#[test]
fn shifters_good_targets_are_accepted_and_prefixes_are_not_mistaken_for_directories() {
    for target in
        ["/var/tmp", "/mnt", "/opt/myStuff", "/input", "/etcetera", "/variable", "/opt/udiImageX"]
    {
        assert_eq!(user(&format!("/a:{target}")).unwrap().target, target);
    }
}

#[test]
fn users_cover_neither_the_root_nor_the_hosts_own_trees() {
    for target in
        ["/", "//", "/.", "/./", "/proc", "/proc/1", "/sys", "/sys/fs", "/dev", "/dev/shm"]
    {
        assert!(matches!(user(&format!("/a:{target}")), Err(Reason::Target(_))), "{target}");
    }
}

#[test]
fn paths_are_cleaned_and_parent_directories_refused() {
    assert_eq!(user("//a///b/:/t//./u/").unwrap().to_string(), "/a/b:/t/u");
    assert_eq!(user("/:/t").unwrap().source, "/");
    assert_eq!(user("/a:/mnt/../etc"), Err(Reason::ParentDirectory("/mnt/../etc".into())));
    assert_eq!(user("/a..b:/t").unwrap().source, "/a..b");
}

#[test]
fn names_with_blanks_and_other_signs_are_kept() {
    assert_eq!(user("/data/my run, 2:/in@1").unwrap().to_string(), "/data/my run, 2:/in@1");
    assert_eq!(user("\"/a:/b\"").unwrap().to_string(), "/a:/b");
    assert_eq!(user("/a:/b\n"), Err(Reason::ControlCharacter));
    assert_eq!(user("/a\nb:/c"), Err(Reason::ControlCharacter));
}

#[test]
fn flags_are_read_in_any_case_once_and_without_values() {
    assert!(user("/a:/b:RO").unwrap().flags.read_only);
    assert_eq!(user("/a:/b:ro:ro"), Err(Reason::RepeatedFlag("ro".into())));
    assert_eq!(user("/a:/b:ro,rec"), Err(Reason::UnknownFlag("ro,rec".into())));
    assert_eq!(user("/a:/b:"), Err(Reason::UnknownFlag("".into())));
    assert_eq!(user("/a:/b:/c"), Err(Reason::UnknownFlag("/c".into())));
    assert_eq!(user("/a:/b:ro=1"), Err(Reason::FlagValue("ro=1".into())));
    assert_eq!(user("/a:/b:perNodeCache"), Err(Reason::NodeCache("".into())));
    let cache = user("/a:/b:perNodeCache=size=4T,bs=4M").unwrap().flags.per_node_cache;
    assert_eq!(cache, Some(NodeCache { size: 4 << 40, block_size: 4 << 20 }));
    let both = Volume::parse("/a:/b:slave:private", Origin::Site).unwrap_err();
    assert_eq!(both.reason, Reason::RepeatedFlag("private".into()));
}

#[test]
fn shifters_site_volumes_are_accepted() {
    assert_eq!(site("/global/cscratch1")[0].target, "/global/cscratch1");
    let text = "/a:/b;/c:/d:rec;/e:/f:rec;/none:/tmp:perNodeCache=size=100M:ro;/qq:/uu";
    assert_eq!(site(text).len(), 5);
    assert_eq!(site("/a:/b; /c:/d;;").len(), 2);
}

#[test]
fn the_canonical_text_is_shifters_signature() {
    assert_eq!(
        canonical(&site("/d:/c;/a:/b;/q:/r;/a:/c:rec:perNodeCache=size=100M:ro")),
        "/a:/b;/a:/c:ro:rec:perNodeCache=size=104857600,bs=1048576,method=loop,fstype=xfs;/d:/c;/q:/r"
    );
}

#[test]
fn sites_do_not_cover_what_the_container_makes() {
    for target in ["/", "/etc", "/etc/passwd", "/var", "/opt", "/proc", "/proc/sys", "/dev"] {
        assert!(Volume::parse(&format!("/a:{target}"), Origin::Site).is_err(), "{target}");
    }
    for target in ["/etc/munge", "/var/run/x", "/opt/cray", "/dev/shm"] {
        assert!(Volume::parse(&format!("/a:{target}"), Origin::Site).is_ok(), "{target}");
    }
}

#[test]
fn a_long_path_is_refused_without_being_repeated_in_full() {
    let error = Volume::parse(&format!("/{}:/b", "a".repeat(5000)), Origin::User).unwrap_err();
    assert_eq!(error.reason, Reason::TooLong);
    assert!(error.to_string().len() < 400);
}

#[test]
fn a_long_flag_or_path_is_not_repeated_in_full_either() {
    let long = "a".repeat(5000);
    for item in [format!("/a:/b:{long}"), format!("/a:/b:ro={long}"), format!("/a:{long}")] {
        assert!(user(&item).unwrap_err().to_string().len() < 400);
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}|[/a.:;=\"rowsz\n ]{0,60}") {
        let _ = parse_list(&text, Origin::User);
        let _ = parse_list(&text, Origin::Site);
    }

    #[test]
    fn the_canonical_text_means_the_same_volume(text in "(/[a-z.]{1,3}){1,3}:(/[a-z.]{1,3}){1,3}(:ro)?") {
        if let Ok(volume) = Volume::parse(&text, Origin::User) {
            prop_assert_eq!(Volume::parse(&volume.to_string(), Origin::User), Ok(volume));
        }
    }

    #[test]
    fn no_spelling_of_a_denied_tree_is_accepted(
        tree in proptest::sample::select(vec!["etc", "proc", "sys", "dev"]),
        before in "(/|/\\.)*", after in "(/\\.|/)*(/[a-z]{1,3})?",
    ) {
        let target = format!("{before}/{tree}{after}");
        prop_assert!(user(&format!("/a:{target}")).is_err(), "{}", target);
    }
}
