//! Submission: what is asked, what is exported, what is refused.

use super::*;
use crate::fake_program::FakeProgram;
use crate::spank::world;

const HEX: &str = "3a1c0f6e9d8b7a6543210fedcba98765432100112233445566778899aabbccdd";

fn options(image: &str, volumes: &str) -> Options {
    let mut options = Options::new();
    options.take(1, image).unwrap();
    options.take(2, volumes).unwrap();
    options
}

/// An imgctl that leaves a trace of having been asked.
fn imgctl() -> (FakeProgram, Result<Config, ConfigError>) {
    let program = FakeProgram::new(&format!(r#"echo "$*" >"$0.saw"; echo sha256:{HEX}"#));
    let config = Config { imgctl: program.path().into(), ..Config::default() };
    (program, Ok(config))
}

fn variable(name: &str) -> Option<String> {
    world(|w| w.client.get(name).cloned())
}

#[test]
fn the_digest_goes_into_every_environment_under_both_names() {
    let (_imgctl, config) = imgctl();
    let mut options = options("docker:org/app:1", "/x:/y:ro;/a:/b");
    options.take(3, "mpich").unwrap();
    submit(&mut Handle::new(), Context::Allocator, &config, &options).unwrap();
    let digest = format!("sha256:{HEX}");
    for (name, value) in [
        ("GANTRY_IMAGE", digest.as_str()),
        ("GANTRY_IMAGE_REQUEST", "docker:org/app:1"),
        ("GANTRY_VOLUME", "/a:/b;/x:/y:ro"),
        ("GANTRY_MODULE", "mpich"),
        ("SHIFTER_MODULE", "mpich"),
        ("SHIFTER_IMAGE", HEX),
        ("SHIFTER_IMAGETYPE", "id"),
        ("SHIFTER_IMAGEREQUEST", "org/app:1"),
        ("SHIFTER_VOLUME", "/a:/b;/x:/y:ro"),
    ] {
        assert_eq!(variable(name).as_deref(), Some(value), "{name}");
        assert_eq!(variable(&format!("SLURM_SPANK_{name}")).as_deref(), Some(value), "{name}");
        assert_eq!(world(|w| w.control.get(name).cloned()).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn a_job_around_leaves_no_volumes_behind() {
    let (_imgctl, config) = imgctl();
    let names = ["GANTRY_VOLUME", "SHIFTER_VOLUME", "SLURM_SPANK_GANTRY_VOLUME", "GANTRY_MODULE"];
    for name in names {
        world(|w| w.client.insert(name.into(), "/outer:/outer".into()));
    }
    submit(&mut Handle::new(), Context::Allocator, &config, &options("docker:a", "")).unwrap();
    for name in names {
        assert_eq!(variable(name), None, "{name}");
    }
}

#[test]
fn without_an_image_nothing_is_asked_and_nothing_exported() {
    let (imgctl, config) = imgctl();
    let context = Context::Allocator;
    submit(&mut Handle::new(), context, &config, &Options::new()).unwrap();
    submit(&mut Handle::new(), context, &config, &options("none", "/a:/b")).unwrap();
    assert!(!imgctl.was_started());
    assert_eq!(variable("GANTRY_IMAGE"), None);
    let mut volume_alone = Options::new();
    volume_alone.take(2, "/a:/b").unwrap();
    let error = submit(&mut Handle::new(), context, &config, &volume_alone).unwrap_err();
    assert_eq!(
        error.to_string(),
        "options about the inside of an image, such as --volume, need --image"
    );
}

#[test]
fn a_step_with_the_jobs_image_asks_nobody() {
    let (imgctl, config) = imgctl();
    let job = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    world(|w| {
        w.client.insert("SLURM_JOB_ID".into(), "7".into());
        w.client.insert("SLURM_SPANK_GANTRY_IMAGE".into(), job.into());
        w.client.insert("SLURM_SPANK_GANTRY_IMAGE_REQUEST".into(), "docker:a".into());
    });
    let options = options("docker:a", "");
    submit(&mut Handle::new(), Context::Srun, &config, &options).unwrap();
    assert!(!imgctl.was_started());
    assert_eq!(variable("GANTRY_IMAGE").as_deref(), Some(job));
    // A new job is asked for anew: the tag may have moved on.
    submit(&mut Handle::new(), Context::Allocator, &config, &options).unwrap();
    assert!(imgctl.was_started());
}

#[test]
fn many_programs_are_refused_where_slurm_cannot_prepend() {
    let (imgctl, config) = imgctl();
    world(|w| w.can_prepend = false);
    world(|w| w.client.insert("SLURM_MULTI_PROG".into(), "1".into()));
    let options = options("docker:a", "");
    let refused = submit(&mut Handle::new(), Context::Srun, &config, &options);
    assert!(matches!(refused, Err(SubmitError::ManyPrograms)));
    assert!(!imgctl.was_started());
    world(|w| w.can_prepend = true);
    submit(&mut Handle::new(), Context::Srun, &config, &options).unwrap();
}

#[test]
fn an_image_that_nobody_waits_for_is_told_as_such() {
    let (imgctl, config) = imgctl();
    let mut options = options("docker:a", "");
    options.take(4, "no").unwrap();
    world(|w| w.client.insert("GANTRY_IMAGE".into(), "sha256:outer".into()));
    submit(&mut Handle::new(), Context::Allocator, &config, &options).unwrap();
    assert_eq!(imgctl.saw(), "resolve --pull --no-wait -- docker:a\n");
    assert_eq!(variable("GANTRY_IMAGE"), None);
    let digest = format!("sha256:{HEX}");
    assert_eq!(variable("SLURM_SPANK_GANTRY_IMAGE_AWAITED").as_deref(), Some(&*digest));
}

#[test]
fn an_srun_begins_anew_once_and_is_then_guarded() {
    let (imgctl, config) = imgctl();
    let options = options("docker:a", "");
    submit(&mut Handle::new(), Context::Allocator, &config, &options).unwrap();
    assert_eq!(world(|w| w.restarts), 0, "what sbatch starts reads the variable itself");
    world(|w| w.client.clear());
    submit(&mut Handle::new(), Context::Srun, &config, &options).unwrap();
    submit(&mut Handle::new(), Context::Srun, &config, &options).unwrap();
    assert_eq!(world(|w| w.restarts), 1);
    assert_eq!(variable("SLURM_SPANK_GANTRY_INSIDE").as_deref(), Some("docker:a"));
    submit(&mut Handle::new(), Context::Srun, &config, &self::options("none", "")).unwrap();
    assert_eq!(variable("SLURM_SPANK_GANTRY_INSIDE"), None);
    assert!(imgctl.was_started());
}

#[test]
fn the_option_for_a_task_prolog_is_told_from_those_that_begin_like_it() {
    for word in ["--task-p", "--task-prolog", "--task-prolog=/x"] {
        assert!(TASK_PROLOG.is(word), "{word}");
    }
    for word in ["--task", "--task-epilog=/x", "--tasks-per-node=2", "task-prolog"] {
        assert!(!TASK_PROLOG.is(word), "{word}");
    }
}

#[test]
fn the_option_for_many_programs_is_known_in_every_spelling() {
    for word in ["--mu", "--multi", "--multi-prog"] {
        assert!(MULTI_PROG.is(word), "{word}");
    }
    for word in ["", "--", "--m", "--mpi", "--multi-progs", "multi-prog", "--mux"] {
        assert!(!MULTI_PROG.is(word), "{word}");
    }
}
