//! Environment and command: Shifter's cases (its test_shifter_core.cpp) and its order of precedence.

use super::*;
use crate::request::{Request, parse};
use alloc::string::String;
use image_ref::{Access, Digest};
use proptest::prelude::*;

fn image(env: &[&str]) -> Sidecar {
    Sidecar {
        digest: Digest::from_bytes([0xab; 32]),
        owner: 1,
        access: Access::Public,
        env: env.iter().map(|item| item.as_bytes().to_vec()).collect(),
        entrypoint: vec![b"echo".to_vec(), b"howdy".to_vec()],
        cmd: vec![b"guys".to_vec()],
        workdir: vec![],
        platform: "linux/amd64".into(),
        made_by: "test".into(),
    }
}

fn run(words: &[&str]) -> Run {
    let digest = format!("--digest={}", "ab".repeat(32));
    let all: Vec<&[u8]> =
        ["g", "run", &digest].iter().chain(words).map(|word| word.as_bytes()).collect();
    match parse(&all).unwrap() {
        Request::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn rules(set: &[(&str, &str)], append: &[(&str, &str)], prepend: &[(&str, &str)]) -> EnvRules {
    let own = |list: &[(&str, &str)]| {
        list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    };
    EnvRules { set: own(set), append: own(append), prepend: own(prepend), unset: vec![] }
}

fn composed(caller: &[&str], env: &[&str], words: &[&str], rules: &[&EnvRules]) -> Vec<String> {
    let caller: Vec<&[u8]> = caller.iter().map(|item| item.as_bytes()).collect();
    compose(&caller, &image(env), &run(words), rules)
        .into_iter()
        .map(|item| String::from_utf8(item).unwrap())
        .filter(|item| !item.starts_with("GANTRY_") && !item.starts_with("SHIFTER_"))
        .collect()
}

#[test]
fn later_sources_win_caller_image_user_module_site() {
    let site = rules(&[("E", "site")], &[], &[]);
    let module = rules(&[("D", "module"), ("E", "module")], &[], &[]);
    assert_eq!(
        composed(
            &["A=caller", "B=caller", "C=caller", "D=caller", "E=caller"],
            &["B=image", "C=image", "D=image", "E=image"],
            &["--env=C=user", "--env=D=user", "--env=E=user"],
            &[&module, &site],
        ),
        ["A=caller", "B=image", "C=user", "D=module", "E=site"]
    );
}

#[test]
fn shifters_path_example_gives_shifters_path() {
    let module = rules(&[], &[], &[("PATH", "/m/bin")]);
    let site = rules(&[], &[("PATH", "/opt/udiImage/bin")], &[]);
    assert_eq!(
        composed(&["PATH=/caller"], &["PATH=/bin"], &[], &[&module, &site]),
        ["PATH=/m/bin:/bin:/opt/udiImage/bin"]
    );
}

#[test]
fn append_and_prepend_set_what_is_unset_and_names_match_exactly() {
    let mut site = rules(&[], &[("X", "3"), ("NEW", "1")], &[("Y", "3")]);
    site.unset = vec!["GONE".into()];
    assert_eq!(
        composed(&["X=4:5", "Y=4:5", "PATH_2=a", "GONE=1", "GONE_2=1"], &["PATH=b"], &[], &[&site]),
        ["X=4:5:3", "Y=3:4:5", "PATH_2=a", "GONE_2=1", "PATH=b", "NEW=1"]
    );
}

#[test]
fn clearenv_leaves_the_callers_variables_behind_and_keeps_the_others() {
    assert_eq!(composed(&["A=1"], &["B=2"], &["--clearenv", "--env=C=3"], &[]), ["B=2", "C=3"]);
}

#[test]
fn the_callers_loader_variables_stay_behind_but_the_images_are_kept() {
    assert_eq!(
        composed(
            &["LD_PRELOAD=/host.so", "LDFLAGS=-s", "junk", "=x"],
            &["LD_LIBRARY_PATH=/i"],
            &[],
            &[]
        ),
        ["LDFLAGS=-s", "LD_LIBRARY_PATH=/i"]
    );
}

#[test]
fn the_container_says_which_image_it_is_and_callers_cannot_pretend_otherwise() {
    let caller: Vec<&[u8]> = vec![b"GANTRY_IMAGE=other", b"SHIFTER_RUNTIME=0"];
    let all = compose(&caller, &image(&[]), &run(&["--request=docker:x:1"]), &[]);
    let hex = "ab".repeat(32);
    for wanted in [
        format!("GANTRY_IMAGE=sha256:{hex}"),
        "GANTRY_IMAGE_REQUEST=docker:x:1".into(),
        "GANTRY_RUNTIME=1".into(),
        format!("SHIFTER_IMAGE={hex}"),
        "SHIFTER_IMAGETYPE=id".into(),
        "SHIFTER_IMAGEREQUEST=docker:x:1".into(),
        "SHIFTER_RUNTIME=1".into(),
    ] {
        assert_eq!(all.iter().filter(|item| **item == wanted.as_bytes()).count(), 1, "{wanted}");
    }
    assert_eq!(all.len(), 7);
}

#[test]
fn shifters_command_matrix_gives_shifters_commands() {
    for (words, wanted) in [
        (&[][..], "/bin/sh"),
        (&["--", "you"], "you"),
        (&["--entrypoint"], "echo howdy guys"),
        (&["--entrypoint", "--", "you"], "echo howdy you"),
        (&["--entrypoint=echo"], "echo"),
        (&["--entrypoint=echo", "--", "you"], "echo you"),
    ] {
        let command = command(&run(words), &image(&[])).unwrap();
        assert_eq!(String::from_utf8(command.join(&b' ')).unwrap(), wanted, "{words:?}");
    }
    let bare = Sidecar { entrypoint: vec![], ..image(&[]) };
    assert_eq!(command(&run(&["--entrypoint"]), &bare), None);
    assert_eq!(command(&run(&["--entrypoint=a"]), &bare), Some(vec![b"a".to_vec()]));
}

#[test]
fn a_command_is_looked_for_in_the_containers_path() {
    let path = vec![b"PATH=/a::/b/".to_vec()];
    assert_eq!(candidates(b"x", &path), [b"/a/x".to_vec(), b"/b//x".to_vec()]);
    assert_eq!(candidates(b"./x", &path), [b"./x".to_vec()]);
    assert_eq!(candidates(b"", &path), [b"".to_vec()]);
    assert_eq!(candidates(b"x", &[]).len(), 3);
}

proptest! {
    #[test]
    fn no_name_is_there_twice(
        caller in proptest::collection::vec("[A-C]{1,2}=[a-z:]{0,3}", 0..12),
        env in proptest::collection::vec("[A-C]{1,2}=[a-z:]{0,3}", 0..12),
    ) {
        let caller: Vec<&str> = caller.iter().map(String::as_str).collect();
        let env: Vec<&str> = env.iter().map(String::as_str).collect();
        let all = composed(&caller, &env, &[], &[]);
        let mut names: Vec<&str> = all.iter().filter_map(|item| item.split('=').next()).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        prop_assert_eq!(names.len(), count);
    }
}
