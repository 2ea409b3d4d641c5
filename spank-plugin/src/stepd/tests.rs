//! What a step's tasks will do, for every kind of step and every way to enter.

use super::*;
use crate::fake_program::FakeProgram;
use crate::spank::world;

const DIGEST: &str = "sha256:3a1c0f6e9d8b7a6543210fedcba98765432100112233445566778899aabbccdd";

fn wanted(text: &str) -> Options {
    let mut options = Options::new();
    options.take(1, text).unwrap();
    options.take(2, "/a:/b").unwrap();
    options
}

fn config(suid: &FakeProgram, enter: Enter) -> Result<Config, ConfigError> {
    Ok(Config { suid: suid.path().into(), enter, ..Config::default() })
}

fn job_knows(request: &str) {
    world(|w| {
        w.job.insert("SLURM_SPANK_GANTRY_IMAGE".into(), DIGEST.into());
        w.job.insert("SLURM_SPANK_GANTRY_IMAGE_REQUEST".into(), request.into());
    });
}

/// A runtime that notes what it was asked and refuses.
fn refusing() -> FakeProgram {
    FakeProgram::new(r#"echo "$*" >"$0.saw"; env >>"$0.saw"; echo no >&2; exit 125"#)
}

#[test]
fn p10_without_an_image_the_runtime_is_not_started() {
    let suid = refusing();
    let mut off = wanted("docker:a");
    off.take(1, "none").unwrap();
    for options in [off, Options::new()] {
        let plan = plan(&Handle::new(), &config(&suid, Enter::All), &options);
        assert!(matches!(plan, Ok(Plan::Host)));
    }
    assert!(!suid.was_started());
}

#[test]
fn what_enters_is_what_the_site_says() {
    use Step::{Batch, Extern, Interactive, Normal};
    for (enter, step, is_inside) in [
        (Enter::Steps, Normal, true),
        (Enter::Steps, Batch, false),
        (Enter::Steps, Interactive, false),
        (Enter::Steps, Extern, false),
        (Enter::All, Normal, true),
        (Enter::All, Batch, true),
        (Enter::All, Interactive, true),
        (Enter::All, Extern, false),
        (Enter::Explicit, Normal, false),
        (Enter::Explicit, Batch, false),
    ] {
        world(|w| w.step = Ok(step));
        let plan = plan(&Handle::new(), &config(&refusing(), enter), &wanted("docker:a"));
        match plan {
            Ok(Plan::Enter(entry)) => {
                assert!(is_inside, "{enter:?} {step:?}");
                assert_eq!(entry.is_script, step == Batch);
                assert_eq!(entry.digest, None, "nothing in the job's environment tells it");
                assert_eq!(entry.inside.volumes.len(), 1);
            }
            Ok(Plan::Host) => assert!(!is_inside, "{enter:?} {step:?}"),
            Err(error) => panic!("{enter:?} {step:?}: {error}"),
        }
    }
}

#[test]
fn an_image_that_cannot_be_mounted_stops_only_those_who_would_enter() {
    let suid = refusing();
    job_knows("docker:a");
    let error =
        plan(&Handle::new(), &config(&suid, Enter::Steps), &wanted("docker:a")).unwrap_err();
    assert_eq!(error.to_string(), "cannot prepare the image docker:a");
    world(|w| w.step = Ok(Step::Batch));
    let batch = plan(&Handle::new(), &config(&suid, Enter::Steps), &wanted("docker:a"));
    assert!(matches!(batch, Ok(Plan::Host)));
}

#[test]
fn p02_the_runtime_is_started_with_the_digest_and_an_empty_environment() {
    let suid = refusing();
    job_knows("docker:a");
    plan(&Handle::new(), &config(&suid, Enter::Steps), &wanted("docker:a")).unwrap_err();
    let saw = suid.saw();
    let hex = DIGEST.trim_start_matches("sha256:");
    assert_eq!(saw.lines().next(), Some(format!("hold --digest={hex} --fd=0").as_str()));
    // The shell itself adds PWD and the like.
    assert!(!saw.contains("PATH=") && !saw.contains("HOME="), "{saw}");
}

#[test]
fn another_images_digest_is_not_taken() {
    let suid = refusing();
    job_knows("docker:b");
    let plan = plan(&Handle::new(), &config(&suid, Enter::Steps), &wanted("docker:a"));
    assert!(matches!(plan, Ok(Plan::Enter(entry)) if entry.digest.is_none()));
    assert!(!suid.was_started());
}
