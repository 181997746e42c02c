"""What it costs to go from rows to packed rows, against the bare tokenizer on the same texts in batches:
the quickest call that the library of tokenizers has.

    python benchmarks/preparing.py [RECIPE] [--draws N] [--repeats N]

Prints the median ratios; both sides run in this process, in turn, on the same texts.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from flantune.mixture.window import WindowBuilder
from flantune.models.load import load_format
from flantune.preparation import members_of, rule_of, tasks_of
from flantune.quickstart import RECIPE
from flantune.recipe import load_recipe


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default=str(RECIPE))
    parser.add_argument("--draws", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    recipe = load_recipe(given.recipe)
    encoder = load_format(recipe.model.name)
    members = members_of(recipe, tasks_of(recipe.tasks, recipe))
    builder = WindowBuilder(members, rule_of(recipe), _Remembering(encoder))
    ratios = []
    for repeat in range(given.repeats + 1):
        builder.encoder.texts.clear()
        began = _clocks()
        for number in range(given.draws // builder.rule.window):
            builder.window(number, given.draws)
        whole = _clocks() - began
        began = _clocks()
        tokens = 0
        for texts in builder.encoder.texts:
            read = encoder.tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            tokens += sum(len(encoded.ids) for encoded in read)
        bare = _clocks() - began
        if repeat:  # the first round compiles templates and warms caches
            ratios.append(whole / bare)
            print(f"{given.draws / whole[0]:,.0f} examples/s, {tokens / whole[0]:,.0f} tokens/s")
    wall, processor = np.median(ratios, axis=0)
    print(f"median ratio: {wall:.2f} by the clock, {processor:.2f} in time of processors")


def _clocks() -> np.ndarray:
    """Seconds of the clock, and of all processors that this process used."""
    return np.array([time.perf_counter(), time.process_time()])


class _Remembering:
    """An encoder that keeps the texts it was asked for."""

    def __init__(self, encoder) -> None:
        self.encoder, self.texts = encoder, []

    def prompt_ids(self, text: str) -> list[int]:
        """Passed on."""
        return self.encoder.prompt_ids(text)

    def ids_of_all(self, prompts, targets):
        """Passed on, and kept."""
        self.texts.append([str(text) for text in (*prompts, *targets)])
        return self.encoder.ids_of_all(prompts, targets)


if __name__ == "__main__":
    main()
