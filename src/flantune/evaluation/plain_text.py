"""Plain text that no task asks about, in paragraphs: of the package, or a file of the user's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from flantune.errors import FlantuneError, Place

PACKAGED = Path(__file__).parent.parent / "starter" / "plain_text.txt"
MOST_CHARACTERS = 100_000  # about 25,000 tokens: half a minute with a small model on two cores


@dataclass(frozen=True)
class PlainText:
    """Paragraphs whose likelihood is measured.

    Attributes:
        name: What the text is called: of a user's only the file's name, since reports are passed on.
        paragraphs: In the order of the file.
        whole: Whether these are all of the file.
    """

    name: str
    paragraphs: tuple[str, ...]
    whole: bool = True


def read_plain_text(chosen: bool | str, place: Place | str | None = None) -> PlainText | None:
    """The text that a recipe chooses by `evaluation.plain_text`; None where it wants none.

    Paragraphs are apart by blank lines, and stand as they are in the file; in a file without a blank line each line is
    one. Of a long file the first `MOST_CHARACTERS` are read, as far as they are whole paragraphs.

    Args:
        chosen: True for the package's, a path, or False.
        place: Where the recipe says so.
    Raises:
        FlantuneError: No such file, not UTF-8, or no paragraph of two words.
    """
    if chosen is False:
        return None
    path = PACKAGED if chosen is True else Path(chosen)

    def refused(what: str) -> FlantuneError:
        return FlantuneError(f"evaluation.plain_text: {path}: {what}", place)

    try:
        with path.open(encoding="utf-8") as file:
            text, more = file.read(MOST_CHARACTERS), bool(file.read(1))
    except UnicodeDecodeError as error:
        raise refused(f"not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except FileNotFoundError:
        raise refused("no such file; name a text file, or say false for none") from None
    except OSError as error:
        raise refused(f"cannot be read ({error.strerror}); name a text file, or say false for none") from None
    apart = re.split(r"\n\s*\n" if re.search(r"\n[^\S\n]*\n", text.strip()) else "\n", text)
    if more and len(apart) > 1:
        apart = apart[:-1]
    paragraphs = tuple(each.strip("\n") for each in apart if len(each.split()) > 1)
    if not paragraphs:
        raise refused("no paragraph of two words or more; name another file, or say false for none")
    return PlainText("of the package" if chosen is True else path.name, paragraphs, not more)
