"""How numbers, verdicts and texts from data are written, the same in report, terminal and model card."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

SYMBOLS = {"better": "▲", "worse": "▼", "equivalent": "＝", "no difference shown": "·"}
GROUPS = {"trained": "Trained tasks", "unseen": "Unseen tasks", "kept": "Abilities to keep"}
NOTHING = "–"

# Marks that reorder or hide what stands beside them.
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
BIDI = re.compile(f"[{_BIDI}]")
_HIDDEN = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff{_BIDI}]")


def finite(value: Any) -> TypeGuard[float]:
    """Whether there is a number to show or to draw."""
    return isinstance(value, int | float) and math.isfinite(value)


def decimals(unit: str) -> int:
    """Scores from 0 to 100 and words are told to a tenth, nats to a thousandth, all others to a hundredth."""
    return {"0-100": 1, "words": 1, "nats a token": 3}.get(unit, 2)


def score(value: float | None, unit: str) -> str:
    """A score in its unit.

    >>> score(31.24, "0-100"), score(0.5, "target units"), score(None, "0-100")
    ('31.2', '0.50', '–')
    """
    return f"{value:.{decimals(unit)}f}".replace("-", "−") if finite(value) else NOTHING


def change(value: float | None, unit: str) -> str:
    """A difference with its sign, kept where it is small, so that an interval shows on which side it ends.

    >>> change(13.26, "0-100"), change(-0.04, "0-100"), change(0, "0-100")
    ('+13.3', '−0.0', '0.0')
    """
    if not finite(value):
        return NOTHING
    sign = "+" if value > 0 else "−" if value < 0 else ""
    return f"{sign}{abs(value):.{decimals(unit)}f}"


def interval(ci: Sequence[float | None] | None, unit: str, *, signed: bool = True) -> str:
    """The ends of an interval.

    >>> interval([10.2, 17.14], "0-100"), interval([10.2, 17.14], "0-100", signed=False)
    ('[+10.2, +17.1]', '[10.2, 17.1]')
    """
    if not ci or not all(finite(end) for end in ci):
        return NOTHING
    write = change if signed else score
    return f"[{write(ci[0], unit)}, {write(ci[1], unit)}]"


def p_value(p: float | None) -> str:
    """A p value, exact where a decision could hang on it.

    >>> p_value(0.00003), p_value(0.0312), p_value(0.4567)
    ('< 0.0001', '0.0312', '0.46')
    """
    if not finite(p):
        return NOTHING
    if p < 0.0001:
        return "< 0.0001"
    return f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def share(value: float | None) -> str:
    """A part of 1 in percent.

    >>> share(0.1234)
    '12.3 %'
    """
    return f"{100 * value:.1f} %" if finite(value) else NOTHING


def count(value: float | None) -> str:
    """A whole number with its thousands apart.

    >>> count(1234567)
    '1,234,567'
    """
    return f"{value:,.0f}" if finite(value) else NOTHING


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> duration(8.4), duration(312.0), duration(20000.0), duration(300000.0)
    ('8 s', '5 min', '5.6 h', '3.5 days')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def short_number(value: float | None) -> str:
    """Three digits that tell the size.

    >>> short_number(0.0002), short_number(1.2345), short_number(18234.0), short_number(2.0)
    ('2e-4', '1.23', '18.2k', '2')
    """
    if not finite(value):
        return NOTHING
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 1e4:
        return f"{value / 1e3:.3g}k"
    if size >= 1e-3:
        return f"{value:.3g}" if size < 1e3 else f"{value:.0f}"
    digits, exponent = f"{value:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def short_task(name: str) -> str:
    """A task's name as people say it: starter tasks without their folder."""
    return name.removeprefix("starter/")


def plural(number: int, one: str, more: str | None = None) -> str:
    """A number with its noun.

    >>> plural(1, "task"), plural(2, "task"), plural(2, "ability to keep", "abilities to keep")
    ('1 task', '2 tasks', '2 abilities to keep')
    """
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def visible(text: str) -> str:
    """Text with what cannot be seen made visible: control characters as pictures, marks by their number.

    >>> visible("a\\x1b[31mb\\u202ec")
    'a␛[31mb⟨U+202E⟩c'
    """
    return _HIDDEN.sub(_picture, text.replace("\r\n", "\n"))


def _picture(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def main_metrics(comparison: Mapping[str, Any], group: str | None = None) -> list[Mapping[str, Any]]:
    """The entry of each task's main metric, of all groups or of one."""
    return [entry for entry in comparison["tasks"] if entry["main"] and group in (None, entry["group"])]
