"""Train on the machines of a Ray cluster: each worker of Ray Train starts one rank, as torchrun would.

Usage: python ray_train.py --workers 16 --gpu /shared/recipe.yaml output=/shared/runs/first

A worker that fails ends all of them, and Ray Train starts them again, up to `--failures` times; `--resume auto` goes on
from the newest checkpoint. Recipe, data and output lie where all machines see them.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from typing import Any

import ray
import ray.train
import ray.train.collective
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer


def rank(settings: dict[str, Any]) -> None:
    """One rank: a process of its own, which finds the others by the variables of torchrun."""
    context = ray.train.get_context()
    address, port = ray.train.collective.broadcast_from_rank_zero(meeting_point())
    variables = {
        "RANK": context.get_world_rank(),
        "WORLD_SIZE": context.get_world_size(),
        "LOCAL_RANK": context.get_local_rank(),
        "LOCAL_WORLD_SIZE": context.get_local_world_size(),
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
    }
    command = [sys.executable, "-m", "flantune", "train", *settings["arguments"], "--resume", "auto", "--no-compare"]
    subprocess.run(command, env={**os.environ, **{k: str(v) for k, v in variables.items()}}, check=True)


def meeting_point() -> tuple[str, int]:
    """This machine's address, and a port that is free on it."""
    with socket.socket() as listening:
        listening.bind(("", 0))
        return ray.util.get_node_ip_address(), listening.getsockname()[1]


def main() -> None:
    """Starts the workers and waits for them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, required=True, help="processes in all")
    parser.add_argument("--gpu", action="store_true", help="one GPU for each")
    parser.add_argument("--failures", type=int, default=3, help="how often to start again")
    parser.add_argument("arguments", nargs="+", help="recipe and overrides, as for flantune train")
    given = parser.parse_args()
    DataParallelTrainer(
        rank,
        train_loop_config={"arguments": given.arguments},
        scaling_config=ScalingConfig(num_workers=given.workers, use_gpu=given.gpu),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=given.failures)),
    ).fit()


if __name__ == "__main__":
    main()
