"""`flantune cache`: what was made once and is kept, and making room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flantune.cache import Entry

app = typer.Typer(
    help="List what is kept in the cache (orders, rows, answers, models), and make room.\n\n"
    "Example: flantune cache list",
    no_args_is_help=True,
)

Kinds = Annotated[
    list[str] | None, typer.Option("--kind", help="Only this kind; may be given more than once.", show_default=False)
]


@app.command("list")
def list_(
    kind: Kinds = None,
    entries: Annotated[
        bool, typer.Option("--entries", help="A line for each entry, least recently used first.")
    ] = False,
) -> None:
    """List how much there is of each kind, and what running processes hold.

    Example: flantune cache list --entries
    """
    import time

    from flantune import cache

    kinds = cache.parse_kinds(kind or [], "--kind")
    found = [entry for entry in cache.entries() if entry.kind in kinds]
    for entry in found if entries else ():
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        print(f"{_size([entry])}  used {used}  {entry.kind}/{entry.path.name}{'  held' if entry.held else ''}")
    for each in kinds:
        ours = [entry for entry in found if entry.kind == each]
        held = sum(entry.held for entry in ours)
        told = f", {held:,} held by running processes" if held else ""
        print(f"{_size(ours)}  {each:<12} {len(ours):>6,}  {cache.KINDS[each]}{told}")
    limit = cache.size_limit()
    told = "no limit" if limit is None else f"limit {limit / 1e9:,.1f} GB"
    print(f"{_size(found)}  in {cache.cache_folder()} ({told}, set by FLANTUNE_CACHE_LIMIT)")


@app.command()
def clean(
    keep: Annotated[
        str | None, typer.Option(help="Size that the cache may have afterwards, such as 5GB.", show_default=False)
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Only what was not used for this long, such as 30d.", show_default=False)
    ] = None,
    kind: Kinds = None,
) -> None:
    """Remove the least recently used entries; what running processes hold stays.

    Example: flantune cache clean --keep 5GB
    """
    from flantune import cache
    from flantune.errors import FlantuneError
    from flantune.reporting.formats import plural

    if keep is None and older_than is None:
        raise FlantuneError("say what may go: --keep 5GB, --older-than 30d, or --keep 0 for everything", "cache clean")
    removed = cache.clean(
        keep=None if keep is None else cache.parse_size(keep, "--keep"),
        older_than=None if older_than is None else cache.parse_age(older_than, "--older-than"),
        kinds=cache.parse_kinds(kind or [], "--kind"),
    )
    left = cache.entries()
    print(f"removed {_size(removed)} in {plural(len(removed), 'entry', 'entries')}")
    print(f"left    {_size(left)} in {plural(len(left), 'entry', 'entries')}")


def _size(entries: Sequence[Entry]) -> str:
    return f"{sum(entry.size for entry in entries) / 1e6:>12,.1f} MB"
