"""Charts as inline SVG, drawn without a script. Colours come from the page's style sheet, by class.

Charts of one row (dumbbell, forest, bars) place everything in percent of their width, so that they fit any
column and rows under each other share one axis. Line charts have a fixed view box.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from markupsafe import Markup, escape

from flantune.reporting.formats import change, finite, score, short_number, visible

_MARGIN = 9.0  # percent of the width kept free at both ends, for labels
_POINTS = 400  # points drawn at most in one line chart


@dataclass(frozen=True)
class Axis:
    """A scale from left to right, in percent of the width.

    Attributes:
        low: Value at one end.
        high: Value at the other end.
        ticks: Values with a grid line.
        reversed: The high end is on the left: for what is better when lower, so that better is always right.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    reversed: bool = False

    def at(self, value: float) -> float:
        """Place of a value, in percent; what is off the scale stands at its end."""
        place = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return _MARGIN + (100 - 2 * _MARGIN) * (1 - place if self.reversed else place)


SCORE_AXIS = Axis(0.0, 100.0, (0.0, 25.0, 50.0, 75.0, 100.0))


def nice(value: float, steps: Sequence[float] = (1, 2, 2.5, 5, 10)) -> float:
    """The smallest round number that is not below a positive value.

    >>> nice(0.37), nice(21), nice(100)
    (0.5, 25.0, 100.0)
    """
    if not finite(value) or value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (*steps, 10 * steps[-1]) if step * power >= value * (1 - 1e-9))


def own_axis(values: Iterable[float | None], *, higher_is_better: bool) -> Axis:
    """The scale of a metric with its own unit: from 0 to a round number."""
    known = [value for value in values if finite(value)]
    high = nice(max([*known, 0.0]))
    low = -nice(-min(known)) if known and min(known) < 0 else 0.0
    return Axis(low, high, (low, (low + high) / 2, high), reversed=not higher_is_better)


def difference_axis(entries: Iterable[Mapping[str, Any]]) -> Axis:
    """One scale of improvement for all scores from 0 to 100, with 0 on it and a little room on both sides."""
    ends = [end for entry in entries if entry["unit"] == "0-100" for end in improvement(entry)]
    low, high = min([*ends, -4.0]), max([*ends, 4.0])
    step = nice((high - low) / 6)
    first, last = math.floor(low / step), math.ceil(high / step)
    return Axis(first * step, last * step, tuple(place * step for place in range(first, last + 1)))


def improvement(entry: Mapping[str, Any]) -> list[float]:
    """Difference and ends of its interval, with the sign turned so that better is positive; numbers only."""
    sign = 1 if entry["higher_is_better"] else -1
    return [sign * value for value in (entry["difference"], *(entry.get("ci") or ())) if finite(value)]


def own_difference_axis(entry: Mapping[str, Any], shared: Axis) -> Axis:
    """The shared scale times a round factor, for a metric with its own unit: 0 stays in its place."""
    needed = [end / (shared.high if end > 0 else shared.low) for end in improvement(entry) if end]
    factor = nice(max(needed, default=1.0))
    ticks = tuple(tick * factor for tick in (shared.ticks[0], 0.0, shared.ticks[-1]))
    return Axis(shared.low * factor, shared.high * factor, ticks)


def axis(scale: Axis, *, signed: bool = False) -> Markup:
    """Labels of a scale, for the head of a column of charts."""
    labels = "".join(
        f'<text x="{scale.at(tick):.2f}%" y="13" class="tick">{_tick(tick, signed)}</text>' for tick in scale.ticks
    )
    return Markup(f'<svg class="axis" height="18" aria-hidden="true">{labels}</svg>')


def dumbbell(entry: Mapping[str, Any], scale: Axis, *, reference: float | None = None) -> Markup:
    """Base (hollow) to tuned (full) on a scale; a stroke where a third value lies."""
    unit, marks = entry["unit"], _grid(scale)
    base, tuned = entry["base"], entry["tuned"]
    if finite(reference):
        x = scale.at(reference)
        marks += f'<line class="reference" x1="{x:.2f}%" x2="{x:.2f}%" y1="22%" y2="78%"/>'
    if finite(base) and finite(tuned):
        left, right = scale.at(base), scale.at(tuned)
        marks += f'<line class="link" x1="{left:.2f}%" x2="{right:.2f}%" y1="50%" y2="50%"/>'
        marks += f'<circle class="base" cx="{left:.2f}%" cy="50%" r="5"/>'
        marks += f'<circle class="tuned" cx="{right:.2f}%" cy="50%" r="5.5"/>'
        outward = -1 if left <= right else 1
        marks += _label(left, outward, "base-label", score(base, unit))
        marks += _label(right, -outward, "tuned-label", score(tuned, unit))
    said = f"{entry['metric']}: base {score(base, unit)}, tuned {score(tuned, unit)}"
    said += f", reference {score(reference, unit)}" if finite(reference) else ""
    return _row(said, marks)


def forest(entry: Mapping[str, Any], scale: Axis) -> Markup:
    """The difference and its interval; better is right of the zero line, whatever the metric."""
    unit, verdict = entry["unit"], entry["verdict"]
    sign = 1 if entry["higher_is_better"] else -1
    zero = scale.at(0.0)
    marks = _grid(scale) + f'<line class="zero" x1="{zero:.2f}%" x2="{zero:.2f}%" y1="0" y2="100%"/>'
    kind = verdict if verdict in ("better", "worse") else "open"
    ci = entry.get("ci") or ()
    if ci and all(finite(end) for end in ci):
        low, high = sorted(scale.at(sign * end) for end in ci)
        marks += f'<line class="interval {kind}" x1="{low:.2f}%" x2="{high:.2f}%" y1="50%" y2="50%"/>'
        for end in (low, high):
            marks += f'<line class="interval {kind}" x1="{end:.2f}%" x2="{end:.2f}%" y1="42%" y2="58%"/>'
    if finite(entry["difference"]):
        x = scale.at(sign * entry["difference"])
        shape = f'<path class="estimate {kind}" d="{_SHAPES[kind]}"/>'
        marks += f'<svg class="over" x="{x:.2f}%" y="50%">{shape}</svg>'
    if unit != "0-100":
        marks += _own_ticks(scale, [(tick, _tick(sign * tick, True)) for tick in scale.ticks])
    return _row(f"difference {change(entry['difference'], unit)}: {verdict}", marks)


# Told apart without colour: a triangle up, a triangle down, an open square.
_SHAPES = {"better": "M-6 5 0-6 6 5Z", "worse": "M-6-5 0 6 6-5Z", "open": "M-4.5-4.5h9v9h-9Z"}


def bars(planned: float | None, realised: float | None, most: float) -> Markup:
    """Planned and realised share of one task as two bars."""
    marks = ""
    for name, value, y in (("planned", planned, 3), ("realised", realised, 13)):
        if finite(value):
            marks += f'<rect class="{name}" x="0" y="{y}" width="{100 * value / most:.2f}%" height="8" rx="2"/>'
    return Markup(f'<svg class="bars" height="24" aria-hidden="true">{marks}</svg>')


@dataclass(frozen=True)
class Curve:
    """A line chart with the numbers that stand beside it.

    Attributes:
        svg: The chart.
        first: Left end of the smoothed line.
        last: Right end of the smoothed line.
        lowest: Lowest point of the smoothed line.
        lowest_step: Its step.
        noise: Standard deviation of the difference between the line's end and another of its points, where nothing
            but the values' noise tells them apart; infinite where too few values were smoothed to know it.
        not_finite: Steps without a finite value.
    """

    svg: Markup
    first: float | None
    last: float | None
    lowest: float | None
    lowest_step: int | None
    noise: float
    not_finite: tuple[int, ...]

    @property
    def rises(self) -> bool:
        """Whether the line ends clearly above its lowest point, as when a task is being lost."""
        if self.lowest is None or self.last is None:
            return False
        return self.last - self.lowest > max(0.25 * self.lowest + 0.05, 5 * self.noise)


def curve(
    steps: Sequence[int],
    values: Sequence[float | None],
    span: tuple[int, int],
    *,
    smooth: bool = True,
    width: int = 320,
    height: int = 160,
    validated: Sequence[tuple[int, float | None]] = (),
    best: int | None = None,
) -> Curve:
    """Values over steps: faint points and a smoothed line (the mean of the points around), from 0 upwards.

    What validations found is a line of its own, with a circle at each.

    Args:
        steps: Where the values are.
        values: What is drawn; what is not finite gets a cross at the upper edge.
        span: First and last step of the run, the same in all charts.
        smooth: False draws the values themselves as the line.
        width: Of the view box; a unit is about a pixel.
        height: Of the view box.
        validated: Steps with what their validation found; what is not finite is left out.
        best: The step of the best validation: a line down the chart, and a full diamond in place of the circle.
    """
    known = [(step, value) for step, value in zip(steps, values, strict=True) if finite(value)]
    lost = tuple(step for step, value in zip(steps, values, strict=True) if not finite(value))
    line = _smoothed(known) if smooth else known
    left, right, top, bottom = 34, 4, 8, 22
    held = [(step, value) for step, value in validated if finite(value)]
    heights = [value for _, value in (*known, *held)]
    high = nice(max([*heights, 0.0]), (1, 1.5, 2, 3, 4, 5, 6, 8, 10))
    low = -nice(-min(heights)) if heights and min(heights) < 0 else 0.0

    def x(step: float) -> float:
        return left + (width - left - right) * (step - span[0]) / max(1, span[1] - span[0])

    def y(value: float) -> float:
        return top + (height - top - bottom) * (high - value) / (high - low)

    parts = []
    for tick in (low, (low + high) / 2, high):
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="y-tick" x="{left - 6}" y="{y(tick) + 3.5:.1f}">{short_number(tick)}</text>')
    for step, anchor in ((span[0], "start"), (span[1], "end")):
        parts.append(
            f'<text class="x-tick" text-anchor="{anchor}" x="{x(step):.1f}" y="{height - 5}">'
            f"{'step ' if anchor == 'start' else ''}{step:,}</text>"
        )
    if smooth and known:
        dots = "".join(f"M{x(step):.1f} {y(value):.1f}h0" for step, value in _thinned(known))
        parts.append(f'<path class="dots" d="{dots}"/>')
    if line:
        drawn = "L".join(f"{x(step):.1f} {y(value):.1f}" for step, value in _thinned(line))
        parts.append(f'<path class="curve" d="M{drawn}{"h.1" if len(line) == 1 else ""}"/>')
    if best is not None:
        parts.append(f'<path class="best" d="M{x(best):.1f} {top}V{height - bottom}"/>')
    if held:
        drawn = "L".join(f"{x(step):.1f} {y(value):.1f}" for step, value in _thinned(held))
        parts.append(f'<path class="validated" d="M{drawn}"/>')
        parts += [
            f'<circle class="validated" cx="{x(step):.1f}" cy="{y(value):.1f}" r="2.6"/>'
            for step, value in _thinned(held)
            if step != best
        ]
        parts += [
            f'<path class="best mark" d="M{x(step):.1f} {y(value) - 5:.1f}l5 5-5 5-5-5Z"/>'
            for step, value in held
            if step == best
        ]
    parts += [f'<path class="lost" d="M{x(step) - 3:.1f} {top - 3}l6 6m0-6l-6 6"/>' for step in _thinned(lost)]
    lowest = min(line, key=lambda point: point[1], default=(None, None))
    svg = Markup(f'<svg class="lines" viewBox="0 0 {width} {height}" aria-hidden="true">{"".join(parts)}</svg>')
    ends = (line[0][1], line[-1][1]) if line else (None, None)
    return Curve(svg, *ends, lowest[1], lowest[0], _noise(known, line), lost)


def spark(steps: Sequence[int], values: Sequence[float | None], span: tuple[int, int]) -> Markup:
    """A line without axes, for a line of text; the span may reach beyond the steps."""
    line = _smoothed([(step, value) for step, value in zip(steps, values, strict=True) if finite(value)])
    high, low = max((v for _, v in line), default=1.0), min((v for _, v in line), default=0.0)
    across, down = 116 / max(1, span[1] - span[0]), 22 / ((high - low) or 1)
    drawn = "L".join(f"{2 + across * (x - span[0]):.1f} {3 + down * (high - y):.1f}" for x, y in _thinned(line))
    path = f'<path class="curve" d="M{drawn}"/>' if drawn else ""
    return Markup(f'<svg class="spark" viewBox="0 0 120 28" aria-hidden="true">{path}</svg>')


def _noise(points: Sequence[tuple[int, float]], line: Sequence[tuple[int, float]]) -> float:
    reach = _reach(points)
    if reach == 0:
        return math.inf
    width, at_the_end = 2 * reach + 1, reach + 1
    squares = sum((value - mean) ** 2 for (_, value), (_, mean) in zip(points, line, strict=True))
    of_a_value = squares / len(points) / (1 - 1 / width)  # each value draws the mean of its window to itself
    return math.sqrt(of_a_value * (1 / width + 1 / at_the_end))


def _reach(points: Sequence[tuple[int, float]]) -> int:
    return len(points) // 24


def _smoothed(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    reach = _reach(points)
    sums = [0.0, *accumulate(value for _, value in points)]
    result = []
    for place, (step, _) in enumerate(points):
        first, end = max(0, place - reach), min(len(points), place + reach + 1)
        result.append((step, (sums[end] - sums[first]) / (end - first)))
    return result


def _thinned(points: Sequence[Any]) -> list[Any]:
    """At most `_POINTS` of them, evenly, the last one always."""
    stride = -(-len(points) // _POINTS)
    if stride <= 1:
        return list(points)
    return [*points[:-1:stride], points[-1]]


def _row(said: str, marks: str) -> Markup:
    return Markup(f'<svg class="row" role="img" aria-label="{escape(visible(said))}">{marks}</svg>')


def _grid(scale: Axis) -> str:
    places = (scale.at(tick) for tick in scale.ticks)
    return "".join(f'<line class="grid" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="100%"/>' for x in places)


def _label(x: float, side: int, name: str, text: str) -> str:
    anchor = "start" if side > 0 else "end"
    place = f'x="{x:.2f}%" y="50%" dx="{10 * side}" dy="4" text-anchor="{anchor}"'
    return f'<text class="{name}" {place}>{text}</text>'


def _own_ticks(scale: Axis, ticks: Sequence[tuple[float, str]]) -> str:
    return "".join(
        f'<text class="own" x="{scale.at(tick):.2f}%" y="100%" dy="-4">{text}</text>' for tick, text in ticks
    )


def _tick(value: float, signed: bool) -> str:
    text = f"{abs(value):.6g}"
    sign = "−" if value < 0 else "+" if signed and value > 0 else ""
    return sign + text
