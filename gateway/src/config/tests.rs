//! Tests of the configuration file.

use super::*;
use std::os::unix::fs::PermissionsExt;

/// The keys of Shifter's own example file.
const SHIFTERS: &str = r#"{
    "WorkerThreads": "8", "LogLevel": "debug", "DefaultImageLocation": "registry-1.docker.io",
    "DefaultImageRemote": "dockerv2", "DefaultImageFormat": "squashfs", "PullUpdateTimeout": 120,
    "PullUpdateTime": 300, "ImageExpirationTimeout": "90:00:00:00", "MongoDBURI": "mongodb://localhost/",
    "MongoDB": "Shifter", "CacheDirectory": "/images/cache/", "ExpandDirectory": "/images/expand/",
    "Locations": { "registry-1.docker.io": { "remotetype": "dockerv2", "authentication": "http" } },
    "Platforms": { "mycluster": { "mungeSocketPath": "/var/run/munge/munge.socket.2", "accesstype": "local",
        "admins": ["root", 1000], "usergroupService": "local", "local": { "imageDir": "/images" } } }
}"#;

fn parse(text: &str) -> Result<Config, String> {
    let config: Config = serde_json::from_str(text).map_err(|err| err.to_string())?;
    match config.check() {
        Ok(()) => Ok(config),
        Err(problem) => Err(ConfigError { path: "/c".into(), problem }.to_string()),
    }
}

#[test]
fn shifters_file_is_read_as_it_is() {
    let config = parse(SHIFTERS).unwrap();
    assert_eq!(config.worker_threads, 8);
    assert_eq!(config.pull_update_timeout, Duration::from_secs(120));
    assert_eq!(config.listen, ["127.0.0.1:5000".parse().unwrap()]);
    assert!(config.allow_unlisted_registries && config.accept_unbound_credentials);
    let platform = config.platforms.values().next().unwrap();
    assert_eq!(platform.admins, [Account::Name("root".into()), Account::Uid(1000)]);
    assert_eq!(platform.image_dir(), Ok(Path::new("/images")));
}

#[test]
fn every_key_without_meaning_is_noticed_and_so_is_a_misspelt_one() {
    let text = SHIFTERS.replacen("{", r#"{ "AllowUnlistedRegistry": false,"#, 1);
    let said = notices(&parse(&text).unwrap());
    assert!(said.contains(&"AllowUnlistedRegistry is unknown and ignored".to_string()), "{said:?}");
    for key in ["MongoDBURI", "ExpandDirectory", "Platforms.mycluster.usergroupService"] {
        assert!(said.iter().any(|s| s.starts_with(&format!("{key} is"))), "{key}: {said:?}");
    }
    assert!(!said.iter().any(|s| s.starts_with("WorkerThreads")), "{said:?}");
}

#[test]
fn what_cannot_work_is_refused_with_the_name_of_the_key() {
    for (from, to, words) in [
        (
            r#""DefaultImageLocation": "registry-1.docker.io""#,
            r#""DefaultImageLocation": "x""#,
            "DefaultImageLocation is `x`",
        ),
        (
            r#""accesstype": "local""#,
            r#""accesstype": "remote""#,
            "platform `mycluster` has the accesstype `remote`",
        ),
        (r#""local": { "imageDir": "/images" }"#, r#""x": 1"#, "has no local.imageDir"),
        (r#""/images" }"#, r#""images" }"#, "is not absolute"),
        (r#""squashfs""#, r#""ext4""#, "DefaultImageFormat is `ext4`"),
        (r#""dockerv2", "auth"#, r#""dockerhub", "auth"#, "remotetype `dockerhub`"),
        (r#""WorkerThreads": "8""#, r#""WorkerThreads": 0"#, "WorkerThreads is a number"),
        (r#""LogLevel""#, r#""Authentication": "mock", "LogLevel""#, "Authentication is `mock`"),
        (r#""mycluster""#, r#""my/cluster""#, "no name for a system"),
        (r#""LogLevel""#, r#""Listen": "localhost", "LogLevel""#, "not address:port"),
    ] {
        let text = SHIFTERS.replacen(from, to, 1);
        assert_ne!(text, SHIFTERS, "{from}");
        let error = parse(&text).unwrap_err();
        assert!(error.contains(words), "{error} / {words}");
    }
}

#[test]
fn two_systems_may_not_share_an_image_directory() {
    let text = SHIFTERS.replacen(
        r#""Platforms": {"#,
        r#""Platforms": { "other": { "local": { "imageDir": "/images" } },"#,
        1,
    );
    assert!(parse(&text).unwrap_err().contains("each system needs its own"));
}

#[test]
fn a_file_that_others_may_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("imagemanager.json");
    std::fs::write(&path, SHIFTERS).unwrap();
    for (mode, fine) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(Config::load(&path).is_ok(), fine, "{mode:o}");
    }
    assert!(Config::load(dir.path()).unwrap_err().to_string().contains("not a regular file"));
}
