"""Short answers: right or wrong, one of a closed set, a number."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flantune.errors import FlantuneError, nearest
from flantune.evaluation.metrics.metric import FloatArray, Metric, best, divide, mean, percent


def answer_of(text: str) -> str:
    """What two equal answers have in common: "Positive." is "positive"."""
    return text.strip().removesuffix(".").rstrip().casefold()


def _exact_match(prediction: str, reference: str) -> float:
    return float(prediction.split() == reference.split())


def _accuracy(prediction: str, reference: str) -> float:
    return float(answer_of(prediction) == answer_of(reference))


def _is_choice(prediction: str, answer_choices: Sequence[str] | None) -> bool:
    return answer_choices is None or answer_of(prediction) in map(answer_of, answer_choices)


def _classes(
    name: str, prediction: str, references: Sequence[str], answer_choices: Sequence[str] | None
) -> tuple[int, int | None]:
    """Numbers of the reference's class and of the predicted one, None where it is none of the choices.

    Several references: a prediction that equals one of them is right; a wrong one counts against the first.

    Raises:
        FlantuneError: There are no choices, two of them are equal, or a reference is not among them.
    """
    if not answer_choices:
        raise FlantuneError(f'metric "{name}" needs answer_choices: add them or choose "accuracy"')
    class_ids = {answer_of(choice): i for i, choice in enumerate(answer_choices)}
    if len(class_ids) < len(answer_choices):
        raise FlantuneError(
            f'metric "{name}": case and a final period do not count, so two answer_choices are equal: '
            + ", ".join(f'"{choice}"' for choice in answer_choices)
        )
    right = [answer_of(reference) for reference in references]
    for reference, answer in zip(references, right, strict=True):
        if answer not in class_ids:
            raise FlantuneError(
                f'metric "{name}": the target "{reference}" is not among the answer_choices; '
                + nearest(reference, answer_choices)
            )
    predicted = answer_of(prediction)
    wanted = class_ids[predicted if predicted in right else right[0]]
    return wanted, class_ids.get(predicted)


def _class_counts(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(tp, fp, fn) of each class in the order of the choices, flattened: k = 3 * len(answer_choices).

    A prediction outside the choices is a miss of the reference's class and a false alarm of none.
    """
    wanted, predicted = _classes("macro_f1", prediction, references, answer_choices)
    counts = np.zeros((len(answer_choices or ()), 3))
    if predicted == wanted:
        counts[wanted, 0] = 1
    else:
        counts[wanted, 2] = 1
        if predicted is not None:
            counts[predicted, 1] = 1
    return counts.reshape(-1)


def _macro_f1(sums: FloatArray) -> FloatArray:
    """Mean F1 over the classes that occur in references or predictions, as scikit-learn's f1_score does."""
    counts = sums.reshape(*sums.shape[:-1], -1, 3)
    tp, fp, fn = counts[..., 0], counts[..., 1], counts[..., 2]
    occurrences = 2 * tp + fp + fn
    f1 = divide(2 * tp, occurrences, empty=0.0)
    return 100.0 * divide(f1.sum(axis=-1), (occurrences > 0).sum(axis=-1).astype(np.float64))


def _class_hits(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(right answers, rows) of each class, flattened: k = 2 * len(answer_choices)."""
    wanted, predicted = _classes("balanced_accuracy", prediction, references, answer_choices)
    counts = np.zeros((len(answer_choices or ()), 2))
    counts[wanted] = predicted == wanted, 1
    return counts.reshape(-1)


def _balanced_accuracy(sums: FloatArray) -> FloatArray:
    """Mean recall over the classes that occur in references, as scikit-learn's balanced_accuracy_score."""
    counts = sums.reshape(*sums.shape[:-1], -1, 2)
    there = (counts[..., 1] > 0).sum(axis=-1).astype(np.float64)
    return 100.0 * divide(divide(counts[..., 0], counts[..., 1], empty=0.0).sum(axis=-1), there)


# A hyphen after a word character joins ("COVID-19", "3-4"); elsewhere it is a minus.
_NUMBER = re.compile(r"(?:(?<![\w.])[-−])?(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)")


def first_number(text: str) -> float | None:
    """The first number written in digits: "4 stars" is 4, "1,250.5" is 1250.5; "four" is none."""
    found = _NUMBER.search(text)
    if found is None:
        return None
    number = float(found.group().replace(",", "").replace("−", "-"))
    return number if math.isfinite(number) else None  # 400 digits overflow to infinity


def range_of(answer_choices: Sequence[str] | None) -> tuple[float, float] | None:
    """The smallest and the largest choice, if all choices hold a number."""
    numbers = [number for number in map(first_number, answer_choices or ()) if number is not None]
    if not numbers or len(numbers) < len(answer_choices or ()):
        return None
    return min(numbers), max(numbers)


def _is_number(prediction: str, answer_choices: Sequence[str] | None) -> bool:
    number, limits = first_number(prediction), range_of(answer_choices)
    return number is not None and (limits is None or limits[0] <= number <= limits[1])


def _absolute_error(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(error against the nearest reference, 1).

    An answer without a number, or outside the range of numeric choices, gets the largest error that an answer
    in the range could have made. Without a range it gets |reference| + 1: more than an answer of 0, so that
    saying nothing never pays.
    """
    limits, errors = range_of(answer_choices), []
    number = first_number(prediction) if _is_number(prediction, answer_choices) else None
    for reference in references:
        target = first_number(reference)
        if target is None:
            raise FlantuneError(f'metric "mean_absolute_error": the target "{reference}" holds no number')
        if number is not None:
            errors.append(abs(number - target))
        elif limits is not None:
            errors.append(max(abs(limit - target) for limit in limits))
        else:
            errors.append(abs(target) + 1.0)
    return np.array([min(errors), 1.0])


# --- agreement on a scale ---


def _steps(name: str, references: Sequence[str], answer_choices: Sequence[str] | None) -> list[float]:
    """The numbers of the choices, ascending.

    Raises:
        FlantuneError: There are none, a choice is no number, or a reference is none of them.
    """
    numbers = [first_number(choice) for choice in answer_choices or ()]
    steps = sorted({number for number in numbers if number is not None})
    if not steps or len(steps) < len(numbers):
        raise FlantuneError(f'metric "{name}" needs answer_choices that are different numbers, such as ["1", "2", "3"]')
    for reference in references:
        if first_number(reference) not in steps:
            raise FlantuneError(f'metric "{name}": the target "{reference}" is not among the answer_choices')
    return steps


def _placed(
    name: str, prediction: str, references: Sequence[str], answer_choices: Sequence[str] | None
) -> tuple[int, int | None, int]:
    """Places on the scale: of the reference nearest to the prediction, of the prediction or None; and steps in all."""
    steps = _steps(name, references, answer_choices)
    number = first_number(prediction)
    wanted = [steps.index(first_number(reference) or 0.0) for reference in references]
    if number not in steps:
        return wanted[0], None, len(steps)
    said = steps.index(number)
    return min(wanted, key=lambda place: abs(place - said)), said, len(steps)


def _kappa_moments(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(1, r, p, r², p², (r - p)²) of places r and p on the scale; k = 6.

    An answer that is not on the scale takes its end that is farther from the reference.
    """
    wanted, said, steps = _placed("quadratic_kappa", prediction, references, answer_choices)
    place = said if said is not None else 0 if wanted > steps - 1 - wanted else steps - 1
    return np.array([1, wanted, place, wanted**2, place**2, (wanted - place) ** 2], dtype=np.float64)


def _quadratic_kappa(sums: FloatArray) -> FloatArray:
    """Cohen's kappa with squared distances (1968, doi:10.1037/h0026256); 100 where all answers are one and right."""
    n, r, p, rr, pp, observed = np.moveaxis(sums, -1, 0)
    by_chance = rr + pp - 2 * divide(r * p, n, empty=0.0)
    return 100.0 * (1.0 - divide(observed, by_chance, empty=0.0))


def _moments(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(v, x, y, x², y², xy, 1) of the answer x and the nearest reference y; v = 1 if there is a number, else all 0."""
    said, wanted = first_number(prediction), [first_number(reference) for reference in references]
    numbers = [number for number in wanted if number is not None]
    if len(numbers) < len(wanted):
        raise FlantuneError(f'metric "pearson": the target "{references[0]}" holds no number')
    if said is None:
        return np.array([0.0] * 6 + [1.0])
    y = min(numbers, key=lambda number: abs(number - said))
    return np.array([1.0, said, y, said * said, y * y, said * y, 1.0])


def _pearson(sums: FloatArray) -> FloatArray:
    """r of the answers with a number, times their share; 0 where either side does not vary."""
    v, x, y, xx, yy, xy, n = np.moveaxis(sums, -1, 0)
    spread_x, spread_y = v * xx - x * x, v * yy - y * y
    tiny = 1e-12
    varies = (spread_x > tiny * v * xx) & (spread_y > tiny * v * yy)  # else it is rounding
    root = np.sqrt(np.where(varies, spread_x * spread_y, 1.0))
    return 100.0 * np.where(varies, (v * xy - x * y) / root, 0.0) * divide(v, n)


def _scale_table(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """1 at (place of the reference, place of the answer), flattened, and 1 for the row: k = steps² + 1.

    An answer that is not on the scale has no place.
    """
    wanted, said, steps = _placed("spearman", prediction, references, answer_choices)
    table = np.zeros(steps * steps + 1)
    table[-1] = 1
    if said is not None:
        table[wanted * steps + said] = 1
    return table


def _spearman(sums: FloatArray) -> FloatArray:
    """Pearson's r of the middle ranks of answers on the scale, times their share; 0 where either side is constant."""
    steps = round((sums.shape[-1] - 1) ** 0.5)
    table = sums[..., :-1].reshape(*sums.shape[:-1], steps, steps)
    placed = table.sum(axis=(-1, -2))

    def ranks(counts: FloatArray) -> FloatArray:
        middle = np.cumsum(counts, axis=-1) - counts / 2
        return middle - placed[..., None] / 2  # about their mean

    rows, columns = table.sum(axis=-1), table.sum(axis=-2)
    r, p = ranks(rows), ranks(columns)
    together = (table * r[..., :, None] * p[..., None, :]).sum(axis=(-1, -2))
    spread = (rows * r * r).sum(axis=-1) * (columns * p * p).sum(axis=-1)
    rho = divide(together, np.sqrt(np.maximum(spread, 0.0)), empty=0.0)
    return 100.0 * rho * divide(placed, sums[..., -1])


_CLASSES = "casefold|final period dropped"
ANSWER_METRICS = (
    Metric("exact_match", True, "0-100", "whitespace normalised", best(_exact_match), percent),
    Metric("accuracy", True, "0-100", _CLASSES, best(_accuracy), percent, _is_choice),
    Metric("balanced_accuracy", True, "0-100", _CLASSES, _class_hits, _balanced_accuracy, _is_choice),
    Metric("macro_f1", True, "0-100", _CLASSES, _class_counts, _macro_f1, _is_choice),
    Metric("mean_absolute_error", False, "target units", "first number", _absolute_error, mean, _is_number),
    Metric(
        "quadratic_kappa",
        True,
        "0-100",
        "first number|places on the scale",
        _kappa_moments,
        _quadratic_kappa,
        _is_number,
    ),
    Metric("pearson", True, "0-100", "first number|r x share with a number", _moments, _pearson, _is_number),
    Metric(
        "spearman",
        True,
        "0-100",
        "first number|middle ranks|rho x share on the scale",
        _scale_table,
        _spearman,
        _is_number,
    ),
)
