"""How likely a model finds the right answers, whatever it would answer itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from flantune.errors import FlantuneError
from flantune.evaluation.metrics.metric import FloatArray, Metric, divide


def _no_answer(*given: Any) -> FloatArray:
    raise FlantuneError('metric "perplexity" scores a model, and no answer')


def _perplexity(sums: FloatArray) -> FloatArray:
    """exp of the mean negative log-likelihood of a token, of sums of (nats, tokens)."""
    with np.errstate(over="ignore"):
        return np.exp(divide(sums[..., 0], sums[..., 1]))


LIKELIHOOD_METRICS = (
    Metric(
        "perplexity",
        False,
        "perplexity",
        "the model's own tokens|first reference and its end",
        _no_answer,
        _perplexity,
        measured="target",
    ),
)
