//! The callbacks in the order in which Slurm calls them, against the fake Slurm.

use super::*;
use crate::fake_program::FakeProgram;
use crate::spank::world;

const DIGEST: &str = "sha256:3a1c0f6e9d8b7a6543210fedcba98765432100112233445566778899aabbccdd";

/// One process of Slurm at a time, as in life: the state is the process's.
fn fresh_process(context: Context) -> MutexGuard<'static, ()> {
    static ORDER: Mutex<()> = Mutex::new(());
    let order = ORDER.lock().unwrap_or_else(PoisonError::into_inner);
    *state() = State::new();
    world(|w| w.context = context);
    order
}

/// A slurmstepd whose job has an image, up to its tasks; the words are those of plugstack.conf.
fn step_with_image(words: &[String]) -> c_int {
    world(|w| {
        w.job.insert("GANTRY_IMAGE".into(), DIGEST.into());
        w.job.insert("GANTRY_IMAGE_REQUEST".into(), "docker:a:1".into());
        w.arguments = vec!["app".into(), "x".into()];
    });
    let spank = &mut Handle::new();
    assert_eq!(init(spank, words), 0);
    assert_eq!(option(1, "docker:a:1", true), 0);
    assert_eq!(post_options(spank), 0, "slurmstepd never gets an error");
    task(spank)
}

fn told_user() -> String {
    world(|w| w.told_user.join("\n"))
}

#[test]
fn p10_a_step_without_an_image_is_left_alone() {
    let _process = fresh_process(Context::Step);
    let spank = &mut Handle::new();
    world(|w| w.arguments = vec!["app".into()]);
    assert_eq!((init(spank, &[]), post_options(spank), task(spank)), (0, 0, 0));
    assert_eq!(world(|w| w.arguments.clone()), ["app"]);
    assert_eq!(
        world(|w| w.options.iter().map(|o| o.name).collect::<Vec<_>>()),
        [c"image", c"volume", c"module", c"device"]
    );
}

#[test]
fn a_task_on_the_host_does_not_pass_for_one_inside_an_image() {
    let _process = fresh_process(Context::Step);
    // Submitted from inside one; its `gantry COMMAND` must enter the image, not run COMMAND here.
    world(|w| w.job.insert("GANTRY_RUNTIME".into(), "1".into()));
    assert_eq!(task(&mut Handle::new()), 0);
    assert_eq!(world(|w| w.job.get("GANTRY_RUNTIME").cloned()), None);
}

#[test]
fn slurmd_gets_nothing_of_ours() {
    let _process = fresh_process(Context::Elsewhere);
    let spank = &mut Handle::new();
    assert_eq!((init(spank, &["enter=nonsense".into()]), post_options(spank)), (0, 0));
    assert_eq!(world(|w| (w.options.len(), w.errors.len())), (0, 0));
}

#[test]
fn a_runtime_that_refuses_ends_the_task_with_its_sentence() {
    let _process = fresh_process(Context::Step);
    let suid = FakeProgram::new("echo 'gantry-suid: the image is not published' >&2; exit 125");
    assert_eq!(step_with_image(&[format!("suid={}", suid.path().display())]), 125);
    assert_eq!(
        told_user(),
        "gantry: cannot prepare the image docker:a:1: gantry-suid: the image is not published"
    );
    assert_eq!(world(|w| w.arguments.clone()), ["app", "x"]);
}

#[test]
fn p03_a_missing_runtime_or_a_bad_plugstack_ends_the_task_only() {
    for word in ["suid=/nonexistent/suid", "suid=relative", "bogus"] {
        let _process = fresh_process(Context::Step);
        world(|w| w.told_user.clear());
        assert_eq!(step_with_image(&[word.into()]), 125, "{word}");
        assert!(told_user().contains(word.trim_start_matches("suid=")), "{}", told_user());
    }
}

#[test]
fn p02_a_bad_option_that_got_past_the_client_ends_the_task() {
    let _process = fresh_process(Context::Step);
    let spank = &mut Handle::new();
    assert_eq!((init(spank, &[]), option(1, "docker:../x", true), post_options(spank)), (0, 0, 0));
    assert_eq!(task(spank), 125);
    assert!(told_user().starts_with("gantry: --image=docker:../x: "), "{}", told_user());
}

#[test]
fn a_client_hears_at_once_what_is_wrong() {
    let _process = fresh_process(Context::Allocator);
    let spank = &mut Handle::new();
    assert_eq!(init(spank, &["bogus".into()]), 0, "jobs without an image must go on");
    assert_eq!(world(|w| w.errors.clone()), Vec::<String>::new());
    assert_eq!(option(1, "docker:X", false), -1);
    assert_eq!(option(1, "docker:x", false), 0);
    assert_eq!(post_options(spank), 1);
    let errors = world(|w| w.errors.clone());
    assert!(errors[0].starts_with("--image=docker:X: `X` has capital letters"), "{errors:?}");
    assert!(errors[1].starts_with("hint: "), "{errors:?}");
    assert!(errors[2].contains("`bogus`"), "{errors:?}");
}

#[test]
fn p04_a_defect_in_a_callback_ends_the_task_and_nothing_else() {
    let _process = fresh_process(Context::Step);
    world(|w| w.has_defect = true);
    assert_eq!(step_with_image(&[]), 125);
    assert_eq!(told_user(), "gantry: defect in the Slurm plugin: the fake's defect");
    world(|w| w.has_defect = false);
    assert_eq!(task(&mut Handle::new()), 125, "the failure stays, whatever works again");
}

#[test]
fn a_hint_stays_the_last_line_of_an_error() {
    let error = config::parse(&["x".into()]).unwrap_err();
    let error = submit::SubmitError::Config(error);
    assert!(chain(&error).starts_with("--image cannot be used here: plugstack.conf gives"));
    let many = chain(&submit::SubmitError::ManyPrograms);
    assert_eq!(many.lines().count(), 2);
    assert!(many.lines().last().is_some_and(|line| line.starts_with("hint: ")), "{many}");
}
