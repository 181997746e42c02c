"""What training rows bring to a task, by a study that took parts of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flantune.evaluation import learning_curve
from flantune.evaluation.compare import Resampling, scores
from flantune.evaluation.records import Side
from flantune.evaluation.statistics import standard_deviation
from flantune.mixture.permutation import key_of
from flantune.reporting.formats import change, interval, plural, short_task
from flantune.study_plan import StudyRun
from flantune.study_results import tables

MORE = 1000  # rows, of which it is said what they would bring


def data_result(base: Side, sides: Mapping[str, Side], runs: Sequence[StudyRun], by: Resampling) -> dict[str, Any]:
    """What training rows bring to each task whose rows the study took parts of.

    Returns:
        `against_base`: every run against the base. `curves`: for each task its main metric's score by rows; `check`,
        what the smaller runs foretell of the largest, with a 95 % prediction interval, beside what it was; `more`, what
        another `MORE` rows would bring. Both are None, and `why` says it, where no power law can be fitted.
    """
    done = [run for run in runs if run.name in sides]
    told: dict[str, Any] = {"against_base": tables(base, sides, by), "curves": None, "answer": None}
    if not done:
        return told
    scored = {run.name: {(it["task"], it["metric"]): it for it in scores(sides[run.name], by)} for run in done}
    curves: list[dict[str, Any]] = []
    for place, task in enumerate(done[0].tasks):
        if len(done) > 1 and len({run.rows[place] for run in done}) == 1:
            continue  # all of its rows in every run
        used = sides[done[0].name].only([task]).tasks[0].scored_by()[0]
        points = [
            {
                "run": run.name,
                "rows": run.rows[place],
                **{key: scored[run.name][task, used.name][key] for key in ("score", "ci")},
            }
            for run in done
        ]
        scale = {"task": task, "metric": used.name, "unit": used.unit, "higher_is_better": used.higher_is_better}
        curves.append(scale | {"points": sorted(points, key=lambda point: point["rows"])})
    whole = any(run.name == "all" for run in done)
    smaller = [_line(curve, curve["points"][:-1]) if whole else None for curve in curves]
    fitted = [_line(curve, curve["points"]) for curve in curves]
    for curve, before, now in zip(curves, smaller, fitted, strict=True):
        *_, last = curve["points"]
        curve["why"] = _why_not(curve) if now is None else None
        curve["exponent"] = None if now is None else now.slope
        curve["check"] = curve["more"] = None
        if before is not None:
            noise = learning_curve.noise([each for each in smaller if each is not None])
            foretold = learning_curve.predicted(before, last["rows"], noise)
            expected, *ends = (_score(curve, error) for error in foretold)
            low, high = sorted(ends)
            held = low <= last["score"] <= high
            curve["check"] = {"rows": last["rows"], "expected": expected, "interval": [low, high], "held": held}
        if now is not None:
            noise = learning_curve.noise([each for each in fitted if each is not None])
            seed = key_of(by.seed, "learning curve", curve["task"])
            sign = -1 if curve["higher_is_better"] else 1
            moved = learning_curve.change(now, last["rows"], MORE, noise, seed)
            gain, *ends = (sign * each for each in moved)
            curve["more"] = {"rows": MORE, "gain": gain, "interval": sorted(ends)}
    return told | {"curves": curves, "answer": data_answer(curves)}


def data_answer(curves: Sequence[Mapping[str, Any]]) -> str:
    """What more rows would bring, a sentence a task, and how the forecast of the largest run did.

    >>> data_answer([{"task": "a", "metric": "f1", "unit": "0-100", "more": {"rows": 1000, "gain": 2.04,
    ...     "interval": [-0.5, 4.0]}, "check": None, "why": None}])
    'Another 1,000 examples of a would bring its f1 about +2.0 [−0.5, +4.0].'
    """
    sentences = []
    for curve in curves:
        more, unit, task = curve["more"], curve["unit"], short_task(curve["task"])
        if more is None:
            sentences.append(f"What more examples of {task} would bring cannot be told: {curve['why']}.")
        else:
            told = f"{change(more['gain'], unit)} {interval(more['interval'], unit)}"
            sentences.append(
                f"Another {more['rows']:,} examples of {task} would bring its {curve['metric']} about {told}."
            )
    checked = [curve for curve in curves if curve["check"] is not None]
    if checked:
        held = sum(curve["check"]["held"] for curve in checked)
        sentences.append(
            f"What the smaller runs foretold of the largest held on {held} of {plural(len(checked), 'task')}."
        )
    return " ".join(sentences)


def _line(curve: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> learning_curve.Line | None:
    """Through points whose metric has an end: 100, or 0 where lower is better."""
    if curve["higher_is_better"] and curve["unit"] != "0-100":
        return None
    errors = [_score(curve, point["score"]) for point in points]  # the way to an error is the way back from it
    sds = [standard_deviation(point["ci"]) for point in points]
    return learning_curve.line([point["rows"] for point in points], errors, sds)


def _score(curve: Mapping[str, Any], error: float) -> float:
    return 100 - error if curve["higher_is_better"] else error


def _why_not(curve: Mapping[str, Any]) -> str:
    if curve["higher_is_better"] and curve["unit"] != "0-100":
        return f"{curve['metric']} has no highest value"
    if len(curve["points"]) < 3:
        return "there are fewer than three runs"
    return "a run has no error left, or its rows no spread"
