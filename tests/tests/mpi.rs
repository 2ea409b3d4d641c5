//! A real MPI program inside an image, over several nodes.

use anyhow::{Result, ensure};
use tests::caller::ALICE;
use tests::science::{DIRECTORY, WITH_MPICH, WITH_OPEN_MPI, base, is_solved, science};
use tests::{Cluster, Plan, on_a_machine};

#[test]
fn privileged_mpich_solves_a_problem_over_three_nodes_with_pmi2() -> Result<()> {
    base()?; // made where there is a network
    on_a_machine(|machine| solve(machine, "--mpi=pmi2", WITH_MPICH))
}

#[test]
fn privileged_open_mpi_solves_a_problem_over_three_nodes_with_pmix() -> Result<()> {
    base()?;
    on_a_machine(|machine| solve(machine, "--mpi=pmix", WITH_OPEN_MPI))
}

fn solve(machine: &tests::Machine, mpi: &str, program: &str) -> Result<()> {
    let mut cluster = Cluster::start(machine, Plan::default())?;
    let image = science(&tests::cluster::layers(), 0)?;
    let option = format!("--image={}", cluster.push("science:1", &image)?.reference);
    let command = format!("cd {DIRECTORY} && exec {program}");
    let environment = [
        // Three tasks that poll share two cores.
        ("OMPI_MCA_mpi_yield_when_idle", "1"),
        // By default Slurm 22.05 runs the two fences of Open MPI's MPI_Init by two algorithms, and on a busy machine
        // now and then lets one task out while another is still in the first: the early one's message makes the late
        // one call a function that is not there yet. With one algorithm for both that was never seen.
        ("SLURM_PMIX_FENCE", "tree"),
    ];
    let words = ["srun", "-N3", "--ntasks-per-node=1", mpi, &option, "sh", "-c", &command];
    let outcome = ALICE.run_with(&words, &environment)?;
    let report = outcome.to_string();
    ensure!(is_solved(&outcome.ok()?), "{report}");
    cluster.check_nothing_left()
}
