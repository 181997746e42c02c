"""Models made from trained ones without training: an adapter merged into its base, models between others."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flantune.errors import FlantuneError
from flantune.files import whole_folder
from flantune.preparation import evaluation_sets, tasks_of, trained_tasks
from flantune.progress import Listener, Silent
from flantune.recipe import Recipe
from flantune.run_folder import read_recipe

if TYPE_CHECKING:
    from flantune.models.merging import Difference, Precision

PROMPTS = 64


def merge(run: Path, out: Path, *, precision: Precision | None = None, listener: Listener | None = None) -> Difference:
    """Writes a run's adapter and its base as one model, if that says what the two say beside each other.

    The merged model, and then what was written, read again, is compared with adapter and base on prompts of the run's
    evaluation, computed in float32; nothing stays where they differ.

    Args:
        run: A trained run's folder.
        out: The model's folder; must not be there.
        precision: Type of the written weights; by default what the run computed in.
        listener: Who is told what goes on.
    Raises:
        FlantuneError: The run has no adapter or is not trained to its end, or the merged model says something else.
    """
    from flantune.models.load import DTYPES, load_model
    from flantune.models.merging import check_merge, difference, merged, next_logits
    from flantune.models.save import write_model

    recipe, listener = read_recipe(run), listener or Silent()
    _refuse_existing(out)
    if not (run / "model" / "adapter_config.json").exists():
        trained = (run / "model").exists()
        reason = "has no adapter: its model is whole already" if trained else "is not trained to its end"
        raise FlantuneError(f"{reason}; give a trained run with adapter.method other than none", run)
    chosen = precision or recipe.training.precision
    system, report = recipe.model.system, listener.say
    loaded = load_model(str(run / "model"), precision="fp32", system=system, report=report)
    prompts = [loaded.format.prompt_ids(prompt) for prompt in islice(_prompts(recipe), PROMPTS)]
    before = next_logits(loaded.model, prompts)
    model = merged(loaded.model)
    check_merge(difference(before, next_logits(model, prompts)), "fp32")  # rounding might hide a small change
    with whole_folder(out) as folder:
        write_model(model.to(DTYPES[chosen]), loaded.format.tokenizer, folder)
        again = load_model(str(folder), precision="fp32", system=system, report=report)
        found = difference(before, next_logits(again.model, prompts))
        check_merge(found, chosen)
    return found


def _prompts(recipe: Recipe) -> Iterator[Any]:
    """Questions of the run's evaluation, one of each task in turn."""
    sets = evaluation_sets(recipe, trained_tasks(recipe), tasks_of(recipe.unseen, recipe))
    items = zip_longest(*(questions.items for questions in sets))
    return (item.prompt for item in chain.from_iterable(items) if item is not None)


def between(
    base: str,
    tuned: str,
    shares: Sequence[Fraction],
    out: Path,
    *,
    precision: Precision = "bf16",
    listener: Listener | None = None,
) -> list[Path]:
    """Writes the models at these shares of the way from a base to a tuned model.

    Args:
        base: Embedded name, folder or hub name.
        tuned: The same, or a run's folder; an adapter is merged first.
        shares: From 0 (the base) to 1.
        out: Where to; must not be there.
        precision: Type of the written weights; they are computed in float32.
        listener: Who is told how far it is.
    Returns:
        The models' folders, in the order of the shares: `out/alpha-0.5`, ...
    Raises:
        FlantuneError: A model that cannot be loaded, two models of different kinds, or a folder that is there.
    """
    from flantune.models.interpolation import interpolate
    from flantune.models.load import DTYPES, load_model
    from flantune.models.merging import merged
    from flantune.models.save import write_model

    listener = listener or Silent()
    _refuse_existing(out)
    ends = [load_model(end, precision="fp32", report=listener.say) for end in (base, _model_of(tuned))]
    first, last = (merged(end.model) for end in ends)
    into = copy.deepcopy(last).to(DTYPES[precision])
    folders = [out / f"alpha-{float(share):g}" for share in shares]
    listener.phase("interpolating", len(folders))
    with whole_folder(out) as aside:
        for share, folder in zip(shares, folders, strict=True):
            interpolate(first, last, share, into)
            write_model(into, ends[1].format.tokenizer, aside / folder.name)
            listener.advance(1, folder.name)
    return folders


def average(
    models: Sequence[str],
    out: Path,
    *,
    precision: Precision = "bf16",
    listener: Listener | None = None,
) -> None:
    """Writes the model whose weights are the mean of those of several.

    Args:
        models: Embedded names, folders, hub names or runs' folders, two or more; adapters are merged first.
        out: The model's folder, with the tokenizer of the first; must not be there.
        precision: Type of the written weights; the mean is computed in float32.
        listener: Who is told how far it is.
    Raises:
        FlantuneError: Fewer than two, a model that cannot be loaded, models of different kinds, or a folder that is
            there.
    """
    from flantune.models.interpolation import add_to_mean
    from flantune.models.load import DTYPES, load_model
    from flantune.models.merging import merged
    from flantune.models.save import write_model

    listener = listener or Silent()
    if len(models) < 2:
        raise FlantuneError("one model is its own average; give two or more")
    _refuse_existing(out)
    listener.phase("averaging", len(models))
    first = load_model(_model_of(models[0]), precision="fp32", report=listener.say)
    mean = merged(first.model)
    listener.advance(1, models[0])
    for count, name in enumerate(models[1:], 2):
        add_to_mean(mean, merged(load_model(_model_of(name), precision="fp32", report=listener.say).model), count)
        listener.advance(1, name)
    with whole_folder(out) as folder:
        write_model(mean.to(DTYPES[precision]), first.format.tokenizer, folder)


def _model_of(name: str) -> str:
    """A run's model, or what was named."""
    return str(Path(name) / "model") if (Path(name) / "model").is_dir() else name


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise FlantuneError("the folder exists already; choose another with --out", out)
