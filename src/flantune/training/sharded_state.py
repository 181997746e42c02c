"""A state in parts on the disk: each rank writes its own, and any number of ranks reads what it needs of all of them.

PyTorch's `torch.distributed.checkpoint` decides who writes what and who reads which piece of which file. Its format
for safetensors is used, not that of its own, whose index is a pickle.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.futures import Future

from flantune.errors import FlantuneError
from flantune.files import disk_errors, file_digest
from flantune.training.distributed import lost_ranks
from flantune.training.tensor_file import write_tensors

SHARDING = "DCP_SHARDING_INFO"  # what the reader looks for in a file, by its format


class _Writer(HuggingFaceStorageWriter):
    """Writes a rank's part as one file, hashed on the way, synced and read back."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), save_distributed=True)
        self._folder = folder
        self.files: dict[str, str] = {}

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[Any]:
        path = self._folder / f"state-{plan.storage_data['shard_index'] - 1:05}.safetensors"
        tensors: dict[str, Tensor] = {}
        begins = {}
        for item in plan.items:
            tensors[item.index.fqn] = planner.resolve_data(item)  # type: ignore[assignment]
            assert item.tensor_data is not None
            begins[item.index.fqn] = {"saved_offsets": list(item.tensor_data.chunk.offsets)}
        done: Future[Any] = Future()
        done.set_result([(path.name, _written(path, tensors, json.dumps(begins)))] if tensors else [])
        return done

    def finish(self, metadata: Any, results: list[list[Any]]) -> None:
        self.files = dict(file for of_rank in results for file in of_rank)


def _written(path: Path, tensors: Mapping[str, Tensor], begins: str) -> str:
    with disk_errors(path):
        written = write_tensors(path, tensors, about={SHARDING: begins})
        with path.open("rb") as file:
            os.fsync(file.fileno())
        if file_digest(path) != written:
            raise FlantuneError("what was written is not what is read back; choose another disk", path)
    return written


def write_parts(folder: Path, tensors: Mapping[str, Tensor], group: Any) -> dict[str, str]:
    """Writes a state of which each rank has a part, and what all have once; all ranks call it.

    Args:
        folder: The same for all ranks.
        tensors: On the CPU.
        group: Process group of all ranks.
    Returns:
        On rank 0 the files' names with their hashes; on others nothing.
    Raises:
        FlantuneError: A rank cannot write to the disk, or cannot trust it.
        RankLost: Another rank ended.
    """
    writer = _Writer(folder)
    with lost_ranks():
        try:
            dcp.save(
                dict(tensors),
                storage_writer=writer,
                planner=dcp.DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
                process_group=group,
            )
        except dcp.api.CheckpointException as error:
            rank, first = _first_failure(error)
            if isinstance(first, FlantuneError):
                raise FlantuneError(f"rank {rank}: {first}") from error
            if isinstance(first, FileNotFoundError):
                raise FlantuneError(
                    f"rank {rank} does not see this folder; where weights are sharded, put the run on a disk that all "
                    "machines share",
                    folder.parent,
                ) from error
            raise first from error
    return writer.files


def read_state(folder: Path, weights: Mapping[str, Tensor], group: Any = None) -> dict[str, Tensor]:
    """Reads a state however many ranks wrote it.

    Args:
        folder: With its safetensors files.
        weights: By name; what has the name and shape of one that lies in parts is read in the same parts. Nothing else
            is read in parts.
        group: Process group of all ranks, which call it together; None where one rank reads all by itself.
    Returns:
        Tensors by name, each `KEY.NAME`.
    """
    reader = HuggingFaceStorageReader(str(folder))
    found = reader.read_metadata().state_dict_metadata
    tensors = {name: _place(name, about, weights) for name, about in found.items()}
    with lost_ranks(computing=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as asked for
        try:
            dcp.load(
                tensors,
                storage_reader=reader,
                planner=dcp.DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
                process_group=group,
                no_dist=group is None,
            )
        except dcp.api.CheckpointException as error:
            raise _first_failure(error)[1] from error
    return tensors


def _first_failure(error: dcp.api.CheckpointException) -> tuple[int, BaseException]:
    """A rank and what it met."""
    rank, (failure, _) = min(error.failures.items(), key=lambda failure: failure[0])
    return rank, failure


def _place(name: str, about: Any, weights: Mapping[str, Tensor]) -> Tensor:
    assert isinstance(about, TensorStorageMetadata)
    weight = weights.get(name.partition(".")[2])
    if weight is not None and weight.shape == about.size:
        return torch.zeros_like(weight, dtype=about.properties.dtype, requires_grad=False)
    return torch.empty(about.size, dtype=about.properties.dtype)
