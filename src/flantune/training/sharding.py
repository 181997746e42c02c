"""Weights in parts: each rank holds a share of every weight, gradient and moment (FSDP2, PyTorch's `fully_shard`).

The weights of a layer are gathered from all ranks before it computes and let go after it; its gradients are summed,
and each rank keeps its share (Zhao et al. 2023, arXiv:2304.11277). Trained weights lie there in float32, so that the
share of a weight is its master, and are gathered in the type that the model computes in.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from flantune.errors import FlantuneError
from flantune.files import digest
from flantune.models.stream import Stream, compute_through, stream_logits
from flantune.training.compilation import layers_of
from flantune.training.distributed import Ranks, lost_ranks
from flantune.training.rounding import master_of

SAMPLED = 64  # numbers of each weight that tell one model from another


class _Root(torch.nn.Module):
    """A step's forward pass as one module, for what no layer has: of an encoder-decoder it is two calls."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, stream: Stream) -> Tensor:
        return stream_logits(self.model, stream)


def shard(model: Any, name: str, ranks: Ranks, *, hybrid: bool, seed: int) -> None:
    """Leaves each rank its share of the model's weights; from then on all ranks compute together, or none does.

    Args:
        model: On the CPU, the same on all ranks; its layers go to the device one by one.
        name: Of the model, for errors.
        ranks: Several.
        hybrid: Shares lie on the ranks of one machine, and each machine has all of them; else on all ranks.
        seed: Of the places where float32 masters of bfloat16 weights begin.
    Raises:
        FlantuneError: Ranks have other weights, weights are of several types, or machines of several sizes.
        RankLost: Another rank ended, or says one of these.
    """
    # T5's layers hand on a table of positions, which is a view; nothing writes into it.
    warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module \(FSDP\w*T5Block\) returned a view")
    computing = _dtype(model, name)
    _check_the_same(model, ranks)
    with lost_ranks():
        mesh = _mesh(ranks, hybrid)
        policy = MixedPrecisionPolicy(
            param_dtype=None if computing == torch.float32 else computing,
            reduce_dtype=torch.float32,
            cast_forward_inputs=False,  # the layers take care of it themselves, on one rank as on many
        )
        root, names = _Root(model), {weight: name for name, weight in model.named_parameters()}
        for part in (*layers_of(model), *_untied(model), root):
            for weight in part.parameters():
                if weight.requires_grad and not isinstance(weight, DTensor):
                    weight.data = master_of(weight.data, names[weight], seed)
            held = fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
            # Sums, never means: the loss is divided by the weight of the whole global batch already.
            held.set_gradient_divide_factor(1.0)
            held.set_force_sum_reduction_for_comms(True)
    compute_through(model, root)


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor of which each rank has a part; all ranks ask for it at once."""
    if not isinstance(tensor, DTensor):
        return tensor
    with lost_ranks():
        return tensor.full_tensor()


def copied_to_cpu(tensor: Tensor) -> Tensor:
    """A copy on the CPU: of a tensor in parts, of this rank's part."""
    if not isinstance(tensor, DTensor):
        return tensor.detach().to("cpu", copy=True).contiguous()
    part = tensor.to_local().detach().to("cpu", copy=True).contiguous()
    mesh = _on_cpu(tensor.device_mesh)
    return DTensor.from_local(
        part, mesh, tensor.placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
    )


def held_bytes(tensors: Mapping[str, Tensor]) -> int:
    """What this rank holds of them."""
    parts = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors.values()]
    return sum(part.numel() * part.element_size() for part in parts)


_cpu_meshes: dict[DeviceMesh, DeviceMesh] = {}


def _on_cpu(mesh: DeviceMesh) -> DeviceMesh:
    """The same ranks, with the memory of their machines; made once, by all ranks together."""
    if mesh.device_type == "cpu":
        return mesh
    if mesh not in _cpu_meshes:
        _cpu_meshes[mesh] = DeviceMesh("cpu", mesh.mesh, mesh_dim_names=mesh.mesh_dim_names)
    return _cpu_meshes[mesh]


def _mesh(ranks: Ranks, hybrid: bool) -> DeviceMesh:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not hybrid or ranks.local_count == ranks.count:
        return init_device_mesh(device, (ranks.count,), mesh_dim_names=("ranks",))
    if len(set(ranks.gathered(ranks.local_count))) > 1:
        raise ranks.told(
            "training.sharding: hybrid needs the same number of ranks on each machine; start as many, or set full"
        )
    shape = (ranks.count // ranks.local_count, ranks.local_count)
    return init_device_mesh(device, shape, mesh_dim_names=("machines", "ranks"))


def _untied(model: Any) -> Iterator[torch.nn.Module]:
    """Embeddings and head, where they are two; weights that several modules use stay gathered for a whole pass."""
    uses = Counter(id(weight) for m in model.modules() for weight in m._parameters.values() if weight is not None)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        if module is not None and all(uses[id(weight)] == 1 for weight in module.parameters()):
            yield module


def _dtype(model: Any, name: str) -> torch.dtype:
    found = {weight.dtype for weight in model.parameters()}
    if len(found) > 1:
        kinds = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in found))
        raise FlantuneError(
            f"has weights of several types ({kinds}), which cannot be sharded; set training.precision: fp32", name
        )
    return found.pop()


def _check_the_same(model: Any, ranks: Ranks) -> None:
    """Refuses to mix shares of two models: a few numbers of each weight are compared."""
    sampled = [
        (name, list(weight.shape), weight.detach().flatten()[:: max(1, weight.numel() // SAMPLED)].tolist())
        for name, weight in model.named_parameters()
    ]
    found = ranks.gathered(digest(sampled))
    if len(set(found)) > 1:
        other = next(rank for rank, each in enumerate(found) if each != found[0])
        raise ranks.told(f"rank {other} has another model than rank 0; copy it to where that rank runs")
