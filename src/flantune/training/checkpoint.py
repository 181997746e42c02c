"""Checkpoints: all that a run needs to go on exactly where it was, whole or absent."""

from __future__ import annotations

import base64
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from flantune.errors import FlantuneError
from flantune.files import file_digest, whole_folder, write_text
from flantune.training.optimizer import MasterOptimizer

STATE = "state.safetensors"


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run.

    Attributes:
        folder: `RUN/checkpoints`.
        keep: How many of the newest stay.
        recipe_digest: A checkpoint of another recipe is refused.
        order_key: A checkpoint of another order (changed data, say) is refused.
    """

    folder: Path
    keep: int
    recipe_digest: str
    order_key: str

    def save(self, step: int, optimizer: MasterOptimizer) -> Path:
        """Writes `step-N` aside, syncs, reads it back, renames it, removes the oldest.

        Args:
            step: Steps done; training goes on with this step number.
            optimizer: Master weights and moments.
        """
        from safetensors.torch import save_file

        target = self.folder / f"step-{step}"
        with whole_folder(target) as aside:
            tensors = {name: tensor.contiguous() for name, tensor in optimizer.state().items()}
            save_file(tensors, aside / STATE)
            record = {
                "step": step,
                "recipe": self.recipe_digest,
                "order": self.order_key,
                "blake2b": file_digest(aside / STATE),
                "random_state": [base64.b64encode(state.numpy().tobytes()).decode() for state in _random_states()],
            }
            write_text(aside / "checkpoint.json", json.dumps(record, indent=2))
        for path in self._all()[: -self.keep]:
            shutil.rmtree(path)
        return target

    def _all(self) -> list[Path]:
        found = [path for path in self.folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
        return sorted(found, key=lambda path: int(path.name[5:]))

    def restore(self, optimizer: MasterOptimizer) -> int:
        """Puts the newest checkpoint back into optimizer, model and random state.

        Returns:
            The step to go on with; 0 if there is no checkpoint.
        Raises:
            FlantuneError: The checkpoint is damaged or belongs to another recipe or other data.
        """
        from safetensors.torch import load_file

        if not self._all():
            return 0
        path = self._all()[-1]
        record = json.loads((path / "checkpoint.json").read_text())
        if record["recipe"] != self.recipe_digest:
            raise FlantuneError("the recipe has changed since this checkpoint; start a new run", path)
        if record["order"] != self.order_key:
            raise FlantuneError(
                "the data, templates or tokenizer have changed since this checkpoint; start a new run", path
            )
        if file_digest(path / STATE) != record["blake2b"]:
            raise FlantuneError("the checkpoint is damaged; delete it to go on from the one before", path)
        optimizer.load_state(load_file(path / STATE))
        states = [torch.frombuffer(bytearray(base64.b64decode(s)), dtype=torch.uint8) for s in record["random_state"]]
        torch.set_rng_state(states[0])
        if len(states) > 1 and torch.cuda.is_available():
            torch.cuda.set_rng_state(states[1])
        return int(record["step"])

    def clear(self) -> None:
        """Removes all checkpoints: the run is complete and its model saved."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _random_states() -> list[torch.Tensor]:
    """Of the CPU, and of the GPU where there is one: dropout draws from the device that it runs on."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])]
