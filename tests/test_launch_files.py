"""The files that start a run on many machines have the form that their launchers ask for."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from ruamel.yaml import YAML
from torch.distributed.run import get_args_parser

FILES = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "launch"


def parsed(arguments: list[str]):
    """What torchrun understands; it ends the process with an error where it does not."""
    return get_args_parser().parse_args(arguments)


def test_the_batch_file_of_slurm_is_a_script_whose_torchrun_hands_signals_on():
    text = (FILES / "slurm.sbatch").read_text(encoding="utf-8")
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    command = text[text.index("exec torchrun") : text.rindex("'")].replace("\\\n", " ")
    numbers = {'"$SLURM_NNODES"': "4", '"$SLURM_NODEID"': "1", '"${SLURM_GPUS_ON_NODE:-1}"': "8"}
    for variable, number in numbers.items():
        assert variable in command
        command = command.replace(variable, number)
    asked = parsed(shlex.split(command)[2:])
    assert (asked.nnodes, asked.node_rank, asked.nproc_per_node) == ("4", 1, "8")
    assert asked.signals_to_handle.split(",") == ["SIGTERM", "SIGINT", "SIGUSR1"]
    assert asked.shutdown_timeout == 300
    assert [asked.module, asked.training_script] == [True, "flantune"]
    assert asked.training_script_args == ["train", "$RECIPE", "--resume", "auto", "--no-compare"]


def test_the_job_of_kubernetes_starts_as_many_pods_as_torchrun_awaits_and_gives_them_time_to_save():
    service, job = YAML(typ="safe").load_all((FILES / "kubernetes.yaml").read_text(encoding="utf-8"))
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["torchrun"]
    asked = parsed([argument.replace("$(JOB_COMPLETION_INDEX)", "0") for argument in container["args"]])
    assert int(asked.nnodes) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert int(asked.nproc_per_node) == container["resources"]["limits"]["nvidia.com/gpu"]
    assert asked.master_addr == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == job["spec"]["template"]["metadata"]["labels"]
    assert pod["terminationGracePeriodSeconds"] > asked.shutdown_timeout
