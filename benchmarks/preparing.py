"""What it costs to go from rows to packed rows, against the bare tokenizer on the same texts in batches.

    python benchmarks/preparing.py [RECIPE] [--draws N] [--repeats N]

Prints the median ratio; both sides run in this process, in turn, on the same texts.
"""

from __future__ import annotations

import argparse
import statistics
import time

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
        began = time.perf_counter()
        for number in range(given.draws // builder.rule.window):
            builder.window(number, given.draws)
        whole = time.perf_counter() - began
        began = time.perf_counter()
        tokens = 0
        for texts in builder.encoder.texts:
            read = encoder.tokenizer(texts, add_special_tokens=False, split_special_tokens=True).input_ids
            tokens += sum(map(len, read))
        bare = time.perf_counter() - began
        if repeat:  # the first round compiles templates and warms caches
            ratios.append(whole / bare)
            print(
                f"{given.draws / whole:,.0f} examples/s, {tokens / whole:,.0f} tokens/s: {ratios[-1]:.2f} times as long"
            )
    print(f"median ratio {statistics.median(ratios):.2f}")


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
