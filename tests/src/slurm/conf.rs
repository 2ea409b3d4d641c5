//! The configuration files of a test's cluster, at Debian's own paths.

use anyhow::{Context, Result};
use std::fs;
use std::io::Write;

use crate::machine::HOST;

/// What a test wants of its cluster.
#[derive(Clone, Debug)]
pub struct SlurmPlan {
    /// How many nodes there are.
    pub nodes: usize,
    /// How Gantry's plugin is configured.
    pub plugin: Plugin,
    /// Whether Gantry's Prolog and Epilog are configured.
    pub prolog: bool,
    /// A node whose plugstack.conf lacks the plugin's line.
    pub bare: Option<&'static str>,
    /// Further lines of slurm.conf.
    pub settings: &'static str,
    /// Whether each job has a `/tmp` of its own, by job_container/tmpfs; for a single node, as nodes share the disk.
    pub own_tmp: bool,
}

/// A line of `plugstack.conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// None.
    Absent,
    /// `required`, with these arguments.
    Required(String),
    /// `optional`, with these arguments.
    Optional(String),
}

impl Default for SlurmPlan {
    fn default() -> Self {
        Self {
            nodes: 3,
            plugin: Plugin::Required(String::new()),
            prolog: true,
            bare: None,
            settings: "",
            own_tmp: false,
        }
    }
}

/// Writes slurm.conf, cgroup.conf and plugstack.conf, and the nodes' names into /etc/hosts.
pub(super) fn write(plan: &SlurmPlan) -> Result<()> {
    fs::create_dir_all("/etc/slurm")?;
    let put = |name: &str, text: &str| {
        let path = format!("/etc/slurm/{name}");
        fs::write(&path, text).with_context(|| format!("cannot write {path}"))
    };
    put("slurm.conf", &slurm_conf(plan))?;
    put("cgroup.conf", "CgroupPlugin=autodetect\nConstrainCores=no\nConstrainRAMSpace=no\n")?;
    if plan.own_tmp {
        put("job_container.conf", "AutoBasePath=true\nBasePath=/srv/slurm/own-tmp\n")?;
    }
    put("plugstack.conf", &plugstack_conf(&plan.plugin))?;
    let mut hosts = fs::File::options().append(true).open("/etc/hosts")?;
    for number in 1..=plan.nodes {
        writeln!(hosts, "127.0.0.1 node{number}")?;
    }
    Ok(())
}

fn plugstack_conf(plugin: &Plugin) -> String {
    match plugin {
        Plugin::Absent => String::new(),
        Plugin::Required(arguments) => format!("required {PLUGIN} {arguments}\n"),
        Plugin::Optional(arguments) => format!("optional {PLUGIN} {arguments}\n"),
    }
}

fn slurm_conf(plan: &SlurmPlan) -> String {
    let mut text = format!("SlurmctldHost={HOST}(127.0.0.1)\n{SETTINGS}");
    if plan.prolog {
        text += &format!("Prolog={PROLOG}\nEpilog={EPILOG}\n");
    }
    text += if plan.own_tmp { OWN_TMP } else { "PrologFlags=Alloc\n" };
    for number in 1..=plan.nodes {
        let port = FIRST_PORT + number;
        text += &format!(
            "NodeName=node{number} NodeHostname={HOST} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=2000\n"
        );
    }
    let nodes = plan.nodes;
    text += plan.settings;
    text += &format!(
        "PartitionName=main Nodes=node[1-{nodes}] Default=YES MaxTime=INFINITE State=UP\n"
    );
    text
}

/// As real clusters have it, but quick: no delays where Slurm waits to batch work up.
const SETTINGS: &str = "\
ClusterName=testbed
SlurmUser=slurm
AuthType=auth/munge
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=/srv/slurm/state
SlurmctldPidFile=/srv/slurm/state/slurmctld.pid
SlurmctldPort=6817
SlurmdSpoolDir=/srv/slurm/spool/%n
SlurmdPidFile=/run/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
CompleteWait=0
KillWait=5
MinJobAge=3600
SlurmctldTimeout=30
SlurmdTimeout=60
UnkillableStepTimeout=60
PropagateResourceLimits=NONE
SchedulerParameters=batch_sched_delay=0,bf_interval=1
MailProg=/bin/true
";

/// The extern step of "Contain" is what makes the job's directories.
const OWN_TMP: &str = "JobContainerType=job_container/tmpfs\nPrologFlags=Alloc,Contain\n";

/// Where slurmctld keeps its state.
pub(super) const STATE: &str = "/srv/slurm/state";

/// Where each slurmd keeps its own.
pub(super) const SPOOL: &str = "/srv/slurm/spool";

const PLUGIN: &str = "/usr/lib/x86_64-linux-gnu/slurm-wlm/spank_gantry.so";

const PROLOG: &str = "/usr/libexec/gantry/gantry-prolog";

const EPILOG: &str = "/usr/libexec/gantry/gantry-epilog";

/// The port of node N is this and N.
const FIRST_PORT: usize = 17000;
