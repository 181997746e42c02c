"""Draws docs/mixtures.svg: what the rules of rates make of the same five tasks.

python scripts/draw_mixtures.py            writes the picture
python scripts/draw_mixtures.py --check    fails where it is stale
"""

from __future__ import annotations

import sys
from pathlib import Path

from flantune.mixture.shape import MixturePart, TaskPart, rated

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "mixtures.svg"
ROWS = [50, 500, 5_000, 50_000, 500_000]
DRAWS = 100_000  # of the run whose epochs are shown
RULES = [
    ("proportional", MixturePart("", ())),
    ("cap: 20000", MixturePart("", (), cap=20_000)),
    ("cap: 20000, floor: 2000", MixturePart("", (), cap=20_000, floor=2_000)),
    ("temperature: 2", MixturePart("", (), rates="temperature", temperature=2.0)),
    ("equal", MixturePart("", (), rates="equal")),
]
LEFT, WIDE, GAP, HIGH, TOP = 96, 150, 20, 34, 30
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f; }
  .rule { font-weight: 600; }
  .quiet { fill: #57606a; font-size: 10.5px; }
  .bar { fill: #2f6fb3; }
  .base { stroke: #8c959f; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .quiet { fill: #9da7b1; }
    .bar { fill: #58a0e8; }
  }
"""


def main() -> None:
    """Writes the picture, or checks it."""
    if "--check" not in sys.argv[1:]:
        PICTURE.write_text(picture(), encoding="utf-8")
    elif PICTURE.read_text(encoding="utf-8") != picture():
        sys.exit(f"{PICTURE} is stale; run python scripts/draw_mixtures.py")


def picture() -> str:
    """The whole SVG."""
    width, height = LEFT + len(RULES) * (WIDE + GAP), TOP + len(ROWS) * HIGH + 14
    parts = [text(0, TOP + i * HIGH + 14, f"{rows:,} rows") for i, rows in enumerate(ROWS)]
    for number, (name, mixture) in enumerate(RULES):
        parts += column(LEFT + number * (WIDE + GAP), name, mixture)
    label = "Shares of draws of five tasks of 50 to 500,000 rows, by rule"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">',
            f"<style>{STYLE}</style>",
            *parts,
            "</svg>\n",
        ]
    )


def column(x: float, name: str, mixture: MixturePart) -> list[str]:
    """One rule: a bar for the share of each task, with the epochs that its rows see."""
    tasks = tuple(TaskPart(str(rows), rows) for rows in ROWS)
    shares = rated(MixturePart("", tasks, rates=mixture.rates, cap=mixture.cap, floor=mixture.floor,
                               temperature=mixture.temperature)).tasks()  # fmt: skip
    made = [text(x, 16, name, "rule")]
    made.append(f'<path class="base" d="M{x} {TOP}v{len(ROWS) * HIGH}"/>')
    for i, (rows, share) in enumerate(zip(ROWS, shares.values(), strict=True)):
        y = TOP + i * HIGH
        made.append(f'<rect class="bar" x="{x}" y="{y + 2}" width="{max(0.5, WIDE * float(share)):.1f}" height="8"/>')
        made.append(
            text(x + 5, y + 23, f"{100 * float(share):.2g} %, {short(float(share) * DRAWS / rows)} epochs", "quiet")
        )
    return made


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Words at a place."""
    return f'<text x="{x}" y="{y}"' + (f' class="{kind}"' if kind else "") + f">{words}</text>"


def short(epochs: float) -> str:
    """Epochs to two significant digits."""
    return f"{epochs:,.0f}" if epochs >= 10 else f"{epochs:.2g}"


if __name__ == "__main__":
    main()
