"""Texts beside reference texts: overlap of words, n-grams and characters, edits, length."""

from __future__ import annotations

import functools
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flantune.evaluation.metrics.metric import FloatArray, Metric, best, divide, percent, version


@functools.cache
def _rouge_scorer(rouge_type: str) -> Any:
    from rouge_score_rs.rouge_scorer import RougeScorer

    return RougeScorer([rouge_type], use_stemmer=True)


def _rouge(rouge_type: str, prediction: str, reference: str) -> float:
    return _rouge_scorer(rouge_type).score(reference, prediction)[rouge_type].fmeasure


@functools.cache
def _sacrebleu(metric_class: str) -> Any:
    from sacrebleu import metrics

    return getattr(metrics, metric_class)()


def _bleu_counts(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(predicted tokens, those of the closest reference, 4 matched and 4 predicted n-gram counts)."""
    counts = _sacrebleu("BLEU").corpus_score([prediction], [[reference] for reference in references])
    return np.array([counts.sys_len, counts.ref_len, *counts.counts, *counts.totals], dtype=np.float64)


def _bleu(sums: FloatArray) -> FloatArray:
    """BLEU with exponential smoothing, `effective_order=False`: sacrebleu's `BLEU.compute_bleu` on arrays."""
    predicted_tokens, reference_tokens = sums[..., 0], sums[..., 1]
    matched, total = sums[..., 2:6], sums[..., 6:10]
    # The first order without a match counts half a match, the second a quarter, and so on.
    unmatched = (matched == 0) & (total > 0)
    smoothed = np.where(unmatched, 0.5 ** np.cumsum(unmatched, axis=-1), matched)
    precision = divide(smoothed, total, empty=0.0)
    scored = (matched > 0).any(axis=-1) & (total > 0).all(axis=-1)
    log_precision = np.log(np.where(precision > 0, precision, 1.0)).mean(axis=-1)
    log_brevity = np.minimum(0.0, 1.0 - divide(reference_tokens, predicted_tokens, empty=1.0))
    return np.where(scored, 100.0 * np.exp(log_precision + log_brevity), 0.0)


def _chrf_counts(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(predicted, reference's, matched) counts of character 1- to 6-grams, of the best reference: k = 18."""
    # The public CHRFScore hides its counts; sacrebleu's own significance tests take this way too.
    counts = _sacrebleu("CHRF")._extract_corpus_statistics([prediction], [[text] for text in references])
    return np.array(counts[0], dtype=np.float64)


def _chrf(sums: FloatArray) -> FloatArray:
    """sacrebleu's chrF2: F of the means of precision and recall over the orders that both sides reach."""
    counts = sums.reshape(*sums.shape[:-1], -1, 3)
    predicted, reference, matched = counts[..., 0], counts[..., 1], counts[..., 2]
    orders = ((predicted > 0) & (reference > 0)).sum(axis=-1).astype(np.float64)

    def mean_share(of: FloatArray) -> FloatArray:
        return divide(divide(matched, of, empty=0.0).sum(axis=-1), orders, empty=0.0)

    precision, recall = mean_share(predicted), mean_share(reference)
    return 100.0 * divide(5.0 * precision * recall, 4.0 * precision + recall, empty=0.0)


def _ter_counts(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(edits to the nearest reference, mean words of the references): k = 2."""
    return np.array(
        _sacrebleu("TER")._extract_corpus_statistics([prediction], [[text] for text in references])[0], float
    )


def _ter(sums: FloatArray) -> FloatArray:
    """sacrebleu's TER: edits for 100 words; 100 for any edit where the references are empty."""
    return 100.0 * divide(sums[..., 0], sums[..., 1], empty=0.0) + 100.0 * ((sums[..., 1] == 0) & (sums[..., 0] > 0))


def _edit_similarity(prediction: str, reference: str) -> float:
    """1 less the share of characters to insert, delete or replace, of the longer text (Levenshtein 1966)."""
    from rapidfuzz.distance import Levenshtein

    return float(Levenshtein.normalized_similarity(prediction, reference))


_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _squad_tokens(text: str) -> list[str]:
    return re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION)).split()


def _token_f1(prediction: str, reference: str) -> float:
    """Bag-of-words F1 of SQuAD 2.0's evaluation (Rajpurkar et al. 2018): empty equals only empty."""
    predicted, wanted = _squad_tokens(prediction), _squad_tokens(reference)
    if not predicted or not wanted:
        return float(predicted == wanted)
    return 2.0 * (Counter(predicted) & Counter(wanted)).total() / (len(predicted) + len(wanted))


def words_of(text: str) -> list[str]:
    """What stands between whitespace and holds a letter or digit; a bullet or a dash is no word."""
    return [word for word in text.split() if any(map(str.isalnum, word))]


def _word_counts(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(predicted words, words of the reference closest in length, the shorter of two as close): k = 2."""
    predicted = len(words_of(prediction))
    lengths = [len(words_of(reference)) for reference in references]
    closest = min(lengths, key=lambda length: (abs(length - predicted), length))
    return np.array([predicted, closest], dtype=np.float64)


def _length_ratio(sums: FloatArray) -> FloatArray:
    return divide(sums[..., 0], sums[..., 1], empty=0.0)


def _rouge_metric(name: str) -> Metric:
    split = "|sentences:lines" if name == "rougeLsum" else ""
    signature = f"{name}|f1|stemmer:porter{split}|rouge-score-rs:{version('rouge-score-rs')}"
    return Metric(name, True, "0-100", signature, best(functools.partial(_rouge, name)), percent)


# sacrebleu's signatures without `nrefs`, which belongs to the data.
_BLEU = f"case:mixed|eff:no|tok:13a|smooth:exp|version:{version('sacrebleu')}"
_CHRF = f"case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version('sacrebleu')}"
_TER = f"case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:{version('sacrebleu')}"
TEXT_METRICS = (
    *map(_rouge_metric, ("rouge1", "rouge2", "rougeL", "rougeLsum")),
    Metric("bleu", True, "0-100", _BLEU, _bleu_counts, _bleu),
    Metric("chrf", True, "0-100", _CHRF, _chrf_counts, _chrf),
    Metric("ter", False, "edits per 100 words", _TER, _ter_counts, _ter),
    Metric("token_f1", True, "0-100", "SQuAD 2.0 normalisation", best(_token_f1), percent),
    Metric(
        "edit_similarity",
        True,
        "0-100",
        f"characters|of the longer|rapidfuzz:{version('rapidfuzz')}",
        best(_edit_similarity),
        percent,
    ),
    # No side is better in itself; above 1 a model talks too much, as untuned ones do, so lower it is.
    Metric("length_ratio", False, "ratio", "whitespace words", _word_counts, _length_ratio),
)
