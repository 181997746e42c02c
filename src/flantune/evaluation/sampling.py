"""Sampled answers: each token drawn by a number that only the seed, the question and the token's place decide.

So an answer is the same in any batch and any order, up to the rounding of the probabilities, and two models that give
the same probabilities give the same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flantune.evaluation.prompts import EvaluationSet
from flantune.mixture.permutation import key_of


@dataclass(frozen=True)
class Sampler:
    """How tokens are drawn for some prompts.

    Attributes:
        temperature: The logits are divided by it.
        top_p: Drawn among the likeliest tokens that together reach this probability (Holtzman et al. 2020,
            arXiv:1904.09751); 1: among all.
        keys: What the draws of each prompt's answer depend on.
    """

    temperature: float
    top_p: float
    keys: Sequence[int]

    def tokens(self, logits: Tensor, numbers: Sequence[int], place: int) -> Tensor:
        """(B,) tokens.

        Args:
            logits: (B, vocabulary).
            numbers: (B,), which prompt each row answers.
            place: Of the token in its answer.
        """
        odds = (logits.double() / self.temperature).softmax(-1)
        if self.top_p < 1:
            ordered, order = odds.sort(dim=-1, descending=True, stable=True)
            before = ordered.cumsum(-1) - ordered
            odds = odds.masked_fill(torch.zeros_like(odds).scatter(-1, order, before) >= self.top_p, 0.0)
        # By the order of the vocabulary: in one by probability, rounding could swap two tokens that are as likely.
        sums = odds.cumsum(-1)
        drawn = [key_of(self.keys[number], "token", place) / 2**64 for number in numbers]
        wanted = torch.tensor(drawn, dtype=torch.double, device=sums.device)[:, None] * sums[:, -1:]
        return torch.searchsorted(sums, wanted, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def repeated(questions: EvaluationSet, temperature: float, top_p: float, repeats: int, seed: int) -> EvaluationSet:
    """The questions of a task that is answered in writing, each so many times, to be sampled; others as they are."""
    if not questions.answered or questions.task.spec.evaluate_by != "generation":
        return questions
    items = [replace(item, repeat=number) for item in questions.items for number in range(repeats)]
    return replace(questions, items=tuple(items), sampled=(temperature, top_p, seed))


def sampler(questions: EvaluationSet) -> Sampler | None:
    """Draws the tokens of the questions' answers; None where they are greedy."""
    if questions.sampled is None:
        return None
    temperature, top_p, seed = questions.sampled
    keys = [key_of(seed, "answer", item.row, str(item.prompt), item.repeat) for item in questions.items]
    return Sampler(temperature, top_p, keys)
