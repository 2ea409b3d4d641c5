//! udiRoot.conf: a file of Shifter's, Gantry's own keys, and what is refused with which line.

use super::*;
use crate::{CommandConf, Notice};
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use proptest::prelude::*;

/// After Shifter's test_udiRoot.conf.in, with Gantry's keys at the end.
const SHIFTERS: &str = "\
#comment
udiMount=/var/udiMount
loopMount=/var/udiLoopMount
imagePath=/images
udiRootPath=/opt/shifter
sitePreMountHook=/etc/opt/nersc/preMount.sh
optUdiImage=/opt/shifter/udiImage
etcPath=/opt/shifter/etc
allowLocalChroot=1
autoLoadKernelModule=0
kmodBasePath=/x
kmodCacheFile=/tmp/udiRootCache
siteFs=/home:/home;\\
       /scratch:/scratch:rec; \\
       /proj:/proj
siteFs=/extra
siteEnv=SHIFTER_RUNTIME=1 NEED=a=b
siteEnvAppend=PATH=/opt/udiImage/bin \\
    MANPATH=/opt/udiImage/man
siteEnvUnset=LD_PRELOAD
imageGateway=http://a:5000 http://b:5000
gatewayTimeout=0
batchType=slurm
system=perlmutter
defaultImageType=docker
mountPropagationStyle=slave
modprobePath=/sbin/modprobe
module_mpich_siteEnvPrepend = LD_LIBRARY_PATH=/opt/udiImage/modules/mpich/lib64
module_mpich_copyPath = /opt/mpich
module_mpich_conflict = openmpi
module_openmpi_siteFs = /ompi:/ompi
module_openmpi_enabled = 1
defaultModules=mpich
imageOwner=990
mungeSocketPath=/run/munge/other.socket
";

fn problem(text: &str) -> (usize, Problem) {
    let error = parse(text).unwrap_err();
    (error.line, error.problem)
}

#[test]
fn a_file_of_shifters_is_read() {
    let commands = CommandConf::parse(SHIFTERS).unwrap();
    let conf = parse(SHIFTERS).unwrap();
    assert_eq!(conf, commands.conf);
    assert_eq!(conf.image_path, "/images");
    let targets: Vec<&str> = conf.site_fs.iter().map(|volume| &*volume.target).collect();
    assert_eq!(targets, ["/home", "/scratch", "/proj", "/extra"]);
    assert_eq!(conf.site_env.set[1], ("NEED".into(), "a=b".into()));
    assert_eq!(conf.site_env.append.len(), 2);
    assert_eq!(commands.image_gateway, ["http://a:5000", "http://b:5000"]);
    assert_eq!((commands.gateway_timeout, commands.system.as_deref()), (None, Some("perlmutter")));
    assert_eq!(conf.mount_propagation, Propagation::Slave);
    assert_eq!((conf.image_owner, commands.munge_socket_path.is_some()), (Some(990), true));
}

#[test]
fn keys_without_effect_are_noticed_with_their_line() {
    let notices = CommandConf::parse(SHIFTERS).unwrap().notices;
    assert!(notices.contains(&Notice::Deprecated(10, "autoLoadKernelModule".into())));
    assert!(notices.contains(&Notice::NotNeeded(2, "udiMount".into())));
    let conf =
        CommandConf::parse("imagePath=/i\nnothing here\nmodule_a=1\nmodule_a_what=1\n").unwrap();
    assert_eq!(
        conf.notices,
        [
            Notice::Stray(2, "nothing here".into()),
            Notice::UnknownModuleKey(3, "a".into()),
            Notice::UnknownModuleKey(4, "what".into()),
        ]
    );
}

#[test]
fn keys_of_shifters_that_nothing_acts_on_are_noticed_and_those_that_count_are_not() {
    for setting in [
        "mountUdiRootWritable=1",
        "etcPath=/x",
        "populateEtcDynamically=1",
        "usersToImport=a b",
        "maxGroupCount=31",
        "allowLocalChroot=1",
        "sitePreMountHook=/x",
        "sitePostMountHook=/x",
        "perNodeCachePath=/x",
        "perNodeCacheSizeLimit=1G",
        "module_m_roothook=/x",
    ] {
        let (key, _) = setting.split_once('=').unwrap();
        let text = format!("imagePath=/i\n{setting}\n");
        let notices = CommandConf::parse(text).unwrap().notices;
        assert_eq!(notices, [Notice::NoEffect(2, key.into())], "{setting}");
    }
    let text = "imagePath=/i\nimageOwner=9\nsiteFs=/a\nsiteEnv=A=1\nsystem=s\nmodule_m_siteFs=/b\ndefaultModules=m\n";
    assert_eq!(CommandConf::parse(text).unwrap().notices, []);
}

#[test]
fn modules_are_selected_in_order_and_conflicts_refused() {
    let conf = parse(SHIFTERS).unwrap();
    let names = |selection| -> Result<Vec<&str>, ModuleError> {
        Ok(conf.modules(selection)?.iter().map(|module| &*module.name).collect())
    };
    assert_eq!(names(None), Ok(vec!["mpich"]));
    assert_eq!(names(Some("openmpi")), Ok(vec!["openmpi"]));
    assert_eq!(names(Some("NONE")), Ok(vec![]));
    let conflict = ModuleError::Conflict("openmpi".into(), "mpich".into());
    assert_eq!(names(Some("openmpi,mpich")), Err(conflict));
    assert_eq!(names(Some("cuda")), Err(ModuleError::Unknown("cuda".into())));
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    assert_eq!(problem("imagePath=/i\n\nfoo=1\n"), (3, Problem::UnknownKey("foo".into(), None)));
    assert_eq!(
        problem("imagepath=/i\n"),
        (1, Problem::UnknownKey("imagepath".into(), Some("imagePath")))
    );
    assert_eq!(problem("imagePath=/i\n # x=1\n").0, 2);
    assert_eq!(problem("=1\n"), (1, Problem::UnknownKey("".into(), None)));
}

#[test]
fn values_of_the_wrong_form_are_refused_with_their_line() {
    for line in [
        "imagePath=images",
        "imageOwner=gantry",
        "imageOwner=4294967295",
        "imageOwner=-1",
        "allowLocalChroot=yes",
        "mountPropagationStyle=shared",
        "gatewayTimeout=soon",
        "defaultImageType=oci",
        "perNodeCacheSizeLimit=much",
        "siteEnv=NAME",
        "siteEnv==x",
        "siteFs=/a:/etc",
        "module_m_siteFs=a",
        "module_m_enabled=on",
    ] {
        assert_eq!(problem(&format!("imagePath=/i\n{line}\n")).0, 2, "{line}");
    }
}

#[test]
fn modules_that_do_not_exist_or_conflict_are_refused() {
    let unknown = Problem::Modules(ModuleError::Unknown("b".into()));
    assert_eq!(problem("imagePath=/i\nmodule_a_conflict=b\n").1, unknown);
    assert_eq!(problem("imagePath=/i\ndefaultModules=b\n"), (2, unknown.clone()));
    assert_eq!(problem("imagePath=/i\nmodule_b_enabled=0\ndefaultModules=b\n"), (3, unknown));
    let text = "imagePath=/i\nmodule_a_conflict=b\nmodule_b_enabled=1\ndefaultModules=a,b\n";
    assert_eq!(problem(text).0, 4);
}

#[test]
fn the_last_scalar_counts_and_module_lists_replace() {
    let conf = parse("imagePath=/a\nimagePath=/b\nmodule_m_siteEnv=A=1\nmodule_m_siteEnv=B=2\n");
    let conf = conf.unwrap();
    assert_eq!(conf.image_path, "/b");
    assert_eq!(conf.modules[0].env.set, [("B".into(), "2".into())]);
}

#[test]
fn a_file_that_is_no_configuration_is_refused() {
    assert_eq!(problem(""), (0, Problem::Missing("imagePath")));
    assert_eq!(parse(b"imagePath=/i\nsystem=\xff\n").unwrap_err().line, 2);
    let large = format!("imagePath=/i\n#{}\n", "x".repeat(crate::CONF_LIMIT));
    assert_eq!(problem(&large), (0, Problem::TooLarge));
}

#[test]
fn a_message_says_line_key_and_what_is_wanted() {
    let text = parse("allowLocalChroot=yes").unwrap_err().to_string();
    assert_eq!(text, "line 1: `allowLocalChroot` wants 0 or 1, not `yes`");
}

#[test]
fn every_key_that_is_suggested_exists() {
    for (key, _) in KEYS {
        let result = parse(format!("{key}=?\n"));
        let unknown = matches!(result, Err(ConfError { problem: Problem::UnknownKey(..), .. }));
        assert!(!unknown, "{key}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        assert_eq!(parse(&bytes).err(), CommandConf::parse(&bytes).err());
    }

    #[test]
    fn no_setting_makes_the_parser_panic(
        at in 0..KEYS.len(), value in "\\PC{0,40}|[/a:;= \\\\\n#]{0,40}",
    ) {
        let (key, _) = KEYS[at];
        let _ = parse(format!("{key}={value}\nmodule_a_{key}={value}\nimagePath=/i\n"));
    }
}
