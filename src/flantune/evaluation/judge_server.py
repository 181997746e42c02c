"""Asking a model behind an OpenAI-compatible server: kept replies, bounded repeats, a key that is nowhere written."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flantune.cache import added, hold
from flantune.errors import FlantuneError, shortened
from flantune.evaluation.judging import Message
from flantune.files import digest, path_lock
from flantune.settings import environment_value

TRIES = 5
FIRST_PAUSE = 0.5  # seconds; twice as long each time
LONGEST_PAUSE = 30.0
SECONDS = 120.0  # for one reply
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
BUSY = (408, 409, 425, 429, 500, 502, 503, 504, 529)


class JudgeServer:
    """A model that is asked one thing at a time, by any number of threads.

    Replies are kept in the cache by the content of what was asked, so that what was asked once is not asked again, also
    after a run that was killed.

    Args:
        url: Up to and with the version: http://localhost:8000/v1.
        model: Its name there.
        key_variable: Name of the environment variable with the key; None asks without one.
        max_tokens: Of a reply.
        cache: Folder of earlier replies; None keeps none.
    Raises:
        FlantuneError: No such address or variable.
    """

    def __init__(
        self, url: str, model: str, *, key_variable: str | None = None, max_tokens: int = 256, cache: Path | None
    ) -> None:
        import httpx

        self.url, self.model, self.max_tokens = checked_url(url), model, max_tokens
        self._key = _key(key_variable)
        self._lock = threading.Lock()
        self._kept: dict[str, str] = {}
        self._file = cache / f"{digest(self.url, model)}.jsonl" if cache is not None else None
        if self._file is not None:
            hold(self._file)
            self._kept = _replies(self._file)
        self.asked = 0
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = httpx.Client(headers=headers, timeout=SECONDS)

    def close(self) -> None:
        """Ends the connections."""
        self._client.close()

    def reply(self, messages: Sequence[Message]) -> str:
        """The model's reply at temperature 0, from the cache where it was asked before.

        Raises:
            FlantuneError: The server refuses, answers something else, or does not answer after several tries.
        """
        asked = {
            "model": self.model,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }
        key = digest(asked)
        if key in self._kept:
            return self._kept[key]
        text = self._posted(asked)
        with self._lock:
            self.asked += 1
            self._kept[key] = text
            if self._file is not None:
                _append(self._file, {"key": key, "reply": text})
        return text

    def _posted(self, asked: dict[str, Any]) -> str:
        import httpx

        told = ""
        for number in range(TRIES):
            try:
                answer = self._client.post(f"{self.url}/chat/completions", json=asked)
            except httpx.TransportError as error:
                told, wait = str(error) or type(error).__name__, None
            else:
                if answer.status_code == 200:
                    return self._text(answer)
                told, wait = self._refusal(answer), answer.headers.get("Retry-After")
                if answer.status_code not in BUSY:
                    raise self._error(told)
            if number + 1 < TRIES:
                time.sleep(_pause(number, wait))
        raise self._error(f"no reply after {TRIES} tries: {told}; replies so far are kept, repeat the command to go on")

    def _text(self, answer: Any) -> str:
        try:
            text = answer.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError):
            text = None
        if not isinstance(text, str):
            raise self._error("the reply is no chat completion; give the address up to and with /v1")
        return self._clean(text)

    def _refusal(self, answer: Any) -> str:
        """What went wrong: the status, and what the server says of it."""
        try:
            said = answer.json()["error"]
            text = said["message"] if isinstance(said, dict) else str(said)
        except (ValueError, LookupError, TypeError):
            text = answer.text
        return (
            f"{answer.status_code} {answer.reason_phrase}: {shortened(' '.join(self._clean(str(text)).split()), 160)}"
        )

    def _error(self, told: str) -> FlantuneError:
        return FlantuneError(self._clean(told), self.url)

    def _clean(self, text: str) -> str:
        """What a server said, without the key that it may repeat."""
        return text.replace(self._key, "***") if self._key else text


def checked_url(url: str) -> str:
    """The address without a slash at its end.

    Raises:
        FlantuneError: It is none of http or https, or holds more than host and path; what it holds is not repeated.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise FlantuneError("is no address; give for example http://localhost:8000/v1", "--url") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise FlantuneError("give no password or key in the address; name a variable with --key-env", "--url")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise FlantuneError("is no http address; give for example http://localhost:8000/v1", "--url")
    return url.rstrip("/")


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not NAME.fullmatch(variable):
        raise FlantuneError("takes the name of an environment variable, not the key itself", "--key-env")
    key = environment_value(variable)
    if key is None:
        raise FlantuneError(f"the environment variable {variable} is not set", "--key-env")
    if not key.isascii() or not key.isprintable():
        raise FlantuneError(f"what {variable} holds is no key: it has characters that no header can carry", "--key-env")
    return key


def _pause(number: int, wanted: str | None) -> float:
    """Seconds before the next try: what the server asks for, else twice as long as before; at most half a minute."""
    try:
        asked = float(wanted) if wanted is not None else FIRST_PAUSE * 2**number
    except ValueError:  # a date
        asked = LONGEST_PAUSE
    return min(max(asked, 0.0), LONGEST_PAUSE)


def _replies(file: Path) -> dict[str, str]:
    """Kept replies; a line that a killed process left half is none."""
    kept = {}
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n") if file.exists() else ():
        try:
            found = json.loads(line)
            kept[str(found["key"])] = str(found["reply"])
        except (ValueError, LookupError, TypeError):
            continue
    return kept


def _append(file: Path, record: dict[str, str]) -> None:
    """Adds a line, after a half one on a line of its own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = not file.exists()
    with file.open("a+b") as stream, path_lock(file):
        end = stream.seek(0, os.SEEK_END)
        if end:
            stream.seek(end - 1)
        broken = end and stream.read(1) != b"\n"
        stream.write(b"\n" * bool(broken) + json.dumps(record, ensure_ascii=False).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    if new:
        added(file)
