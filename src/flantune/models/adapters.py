"""Adapters through the `peft` library: few trainable weights beside a model whose own stay as they are."""

from __future__ import annotations

from typing import Any

import torch

from flantune.errors import FlantuneError, nearest
from flantune.models.quiet import quiet_transformers
from flantune.recipe.schema import PROMPT_METHODS, Adapter

IA3_LAYERS = ("k_proj", "v_proj", "down_proj")  # as in Llama, for kinds of models that the library has no list for


def add_adapter(model: Any, choice: Adapter, *, base_name: str) -> Any:
    """The model with a trainable adapter, all other weights frozen.

    Learned tokens have no place in a packed stream: with them the model is one with the library's own attention.

    LoRA: Hu et al. 2021, arXiv:2106.09685; rsLoRA: Kalajdzievski 2023, arXiv:2312.03732; DoRA: Liu et al. 2024,
    arXiv:2402.09353; QLoRA: Dettmers et al. 2023, arXiv:2305.14314 (its base is loaded in 4 bits); IA3: Liu et al.
    2022, arXiv:2205.05638; prompt tuning: Lester et al. 2021, arXiv:2104.08691; prefix tuning: Li and Liang 2021,
    arXiv:2101.00190.

    Args:
        model: A transformers model.
        choice: Method, rank, scale, dropout and layers.
        base_name: What the adapter's folder names as its base.
    Raises:
        FlantuneError: A name among the target modules that no layer of the model has.
    """
    with quiet_transformers():  # bitsandbytes, where installed, is imported too, and logs which kernels it lacks
        import peft

    if isinstance(choice.target_modules, tuple):
        _check_names(choice.target_modules, linear_layers(model))
    if choice.method in PROMPT_METHODS:
        config = _prompt(model, choice)
    else:
        config = _ia3(model, choice) if choice.method == "ia3" else _lora(model, choice)
    with quiet_transformers():
        wrapped = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
    wrapped.peft_config["default"].base_model_name_or_path = base_name
    return wrapped


def linear_layers(model: Any) -> set[str]:
    """Last parts of the names of a model's linear layers."""
    return {name.rpartition(".")[2] for name, layer in model.named_modules() if _is_linear(layer)}


def _is_linear(layer: torch.nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, torch.nn.Linear | Conv1D)


def _check_names(names: tuple[str, ...], linear: set[str]) -> None:
    for name in names:
        if name not in linear:
            raise FlantuneError(f'adapter.target_modules: the model has no layer "{name}"; {nearest(name, linear)}')


def _lora(model: Any, choice: Adapter) -> Any:
    import peft

    layers = choice.target_modules or "all-linear"
    return peft.LoraConfig(
        r=choice.rank,
        lora_alpha=choice.alpha,  # type: ignore[arg-type]
        lora_dropout=choice.dropout,
        target_modules=layers if isinstance(layers, str) else list(layers),
        use_rslora=choice.method == "rslora",
        use_dora=choice.method == "dora",
        **_kind(model),
    )


def _ia3(model: Any, choice: Adapter) -> Any:
    """Factors on the outputs of keys and values, and on the inputs of the layers that end a feed-forward block."""
    import peft

    linear = linear_layers(model) - {"lm_head"}
    by_default, ends = _ia3_layers(model.config.model_type)
    if choice.target_modules is None:
        layers = by_default or [name for name in IA3_LAYERS if name in linear]
    else:
        layers = sorted(linear) if choice.target_modules == "all-linear" else list(choice.target_modules)
    if not layers:
        known = ", ".join(sorted(linear))
        raise FlantuneError(f"adapter.target_modules: give the layers that ia3 scales; known: {known}")
    return peft.IA3Config(
        target_modules=layers, feedforward_modules=[name for name in layers if name in ends], **_kind(model)
    )


def _ia3_layers(model_type: str) -> tuple[list[str], list[str]]:
    """The library's layers for a kind of model, and which of them end a feed-forward block."""
    from peft import utils

    layers = utils.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(model_type, [])
    return layers, utils.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(model_type, [IA3_LAYERS[-1]])


def _prompt(model: Any, choice: Adapter) -> Any:
    import peft

    kind = peft.PromptTuningConfig if choice.method == "prompt_tuning" else peft.PrefixTuningConfig
    return kind(num_virtual_tokens=choice.virtual_tokens, task_type=_kind(model)["task_type"])


def _kind(model: Any) -> dict[str, Any]:
    """What both kinds of configuration say about a model."""
    from transformers.pytorch_utils import Conv1D

    return {
        "task_type": "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
        "fan_in_fan_out": any(isinstance(layer, Conv1D) for layer in model.modules()),
    }
