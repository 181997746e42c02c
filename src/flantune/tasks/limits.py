"""Rendering in worker processes with bounds on time and memory: for templates that are not the user's own.

`jinja.py` bounds what a template does by counting; a worker holds also what nobody thought of. It is a fresh Python
that cannot open a file or a socket and has no environment variable of the user's. Plain data goes to it; texts come
back in a form that is only cut and decoded, never unpickled.
"""

from __future__ import annotations

import contextlib
import marshal
import mmap
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self, cast

import jinja2
import markupsafe

from flantune.errors import FlantuneError
from flantune.settings import library_folders
from flantune.tasks import limits_worker
from flantune.tasks.jinja import LONGEST_RENDERING
from flantune.tasks.limits_worker import FORBIDDEN, LENGTH, READY, REFUSED, RENDERED, STOPPED
from flantune.tasks.rendering import Text

GRACE = 2.0  # seconds of silence beyond a worker's own limit, until it is killed
START = 60.0  # seconds that a worker may take to start
SLICE = 0.25  # seconds between two looks at the clock
LARGEST_BATCH = 256, 1 << 20  # texts, bytes
LARGEST_TEXT = 16 << 20  # bytes of a text and its values
LONGEST_ANSWER = 4 * LONGEST_RENDERING + 10_000  # bytes
MOST_STOPS = 3  # of one template, until it is not tried any more

STRANGE = "has a worker say what none says, and was stopped"

Answer = str | FlantuneError


class BoundedRenderer:
    """Renders texts in worker processes; what goes wrong with one of them harms no other.

    Args:
        seconds: Of processor time for one text; a worker that is silent for `GRACE` more is killed.
        memory_bytes: Address space of a worker.
        workers: Processes; they start when the first texts come, and stay until `close`.

    A template that was stopped `MOST_STOPS` times is not tried any more. Not for several threads at once.
    """

    def __init__(self, *, seconds: float = 2.0, memory_bytes: int = 512 << 20, workers: int = 1) -> None:
        self._seconds, self._memory_bytes, self._most = seconds, memory_bytes, workers
        self._workers: list[_Worker] = []
        self._stops: Counter[str] = Counter()
        weakref.finalize(self, _end_all, self._workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> Any:
        return _renderer, (self._seconds, self._memory_bytes, self._most)

    def close(self) -> None:
        """Ends the workers; new ones start when texts come again."""
        _end_all(self._workers)

    def render_all(self, texts: Sequence[Text]) -> list[Answer]:
        """What each text renders to, or why it does not.

        Raises:
            RuntimeError: No worker process can be started.
        """
        answers: list[Any] = [None] * len(texts)
        waiting = deque(self._batches(texts, answers))
        try:
            while waiting or self._busy():
                self._hand_out(waiting, answers)
                self._wait(waiting, answers)
        except BaseException:
            self.close()  # in the middle of a batch: what they say next would be taken for other answers
            raise
        return answers

    def _own(self) -> list[_Worker]:
        """The workers of this process: a fork of it must not speak into their pipes."""
        return [worker for worker in self._workers if worker.parent == os.getpid()]

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._own() if worker.todo]

    def _batches(self, texts: Sequence[Text], answers: list[Any]) -> Iterator[list[_Request]]:
        most_texts, most_bytes = LARGEST_BATCH
        most_texts = min(most_texts, -(-len(texts) // self._most))
        batch: list[_Request] = []
        held = 0
        for number, text in enumerate(texts):
            try:
                batch.append(_Request(number, text, _encoded(text)))
                held += len(batch[-1].frame)
            except FlantuneError as error:
                answers[number] = error
            if len(batch) == most_texts or held > most_bytes:
                yield batch
                batch, held = [], 0
        yield batch

    def _hand_out(self, waiting: deque[list[_Request]], answers: list[Any]) -> None:
        """Gives each worker that has nothing to do a batch, and starts workers while there are fewer than wanted."""
        idle = [worker for worker in self._own() if not worker.todo]
        while waiting and (idle or len(self._own()) < self._most):
            batch = []
            for request in waiting.popleft():
                if self._stops[request.text.text] < MOST_STOPS:
                    batch.append(request)
                else:
                    why = f"was stopped {MOST_STOPS} times and is not tried again; correct it, or leave it out"
                    answers[request.number] = FlantuneError(f"{request.text.what} {why}")
            if batch:
                if not idle:
                    idle.append(_Worker(self._seconds, self._memory_bytes))
                    self._workers.append(idle[-1])
                idle.pop().begin(batch)

    def _wait(self, waiting: deque[list[_Request]], answers: list[Any]) -> None:
        """Lets the workers go on for a moment; takes what they answer, and replaces those that ended."""
        busy = self._busy()
        before = time.monotonic()
        heard = _heard(busy)
        passed = min(time.monotonic() - before, 2 * SLICE)  # were this process halted meanwhile, they were too
        for worker in busy:
            worker.silent = 0.0 if worker in heard else worker.silent + passed
            try:
                for request, kind, said in worker.answers() if worker in heard else ():
                    answers[request.number] = self._answer(request, kind, said)
                worker.check_time()
                if self._is_futile(worker):
                    self._end(worker)
                    waiting.appendleft(list(worker.todo))
            except _Ended as ended:
                self._end(worker)
                self._take_back(worker, ended, waiting, answers)

    def _is_futile(self, worker: _Worker) -> bool:
        """Whether a worker has yet to try what was stopped too often."""
        return bool(self._stops) and any(self._stops[request.text.text] >= MOST_STOPS for request in worker.todo)

    def _end(self, worker: _Worker) -> None:
        worker.end()
        self._workers.remove(worker)

    def _answer(self, request: _Request, kind: bytes, said: str) -> Answer:
        if kind == RENDERED:
            return said
        return FlantuneError(said) if kind == REFUSED else self._stopped(request, _too_long(self._seconds))

    def _stopped(self, request: _Request, why: str) -> FlantuneError:
        self._stops[request.text.text] += 1
        return FlantuneError(f"{request.text.what} {why}")

    def _take_back(self, worker: _Worker, ended: _Ended, waiting: deque[list[_Request]], answers: list[Any]) -> None:
        """What a worker left when it ended goes to others, but for the text that it ended at."""
        others = list(worker.todo)
        if not others:
            return
        culprit = others.pop(worker.at())
        if others:
            waiting.appendleft(others)
        if ended.by_chance and not culprit.tried:
            waiting.appendleft([culprit._replace(tried=True)])
        else:
            answers[culprit.number] = self._stopped(culprit, ended.why)


def _renderer(seconds: float, memory_bytes: int, workers: int) -> BoundedRenderer:
    return BoundedRenderer(seconds=seconds, memory_bytes=memory_bytes, workers=workers)


def _too_long(seconds: float) -> str:
    return f"took more than {seconds:g} s and was stopped; shorten it"


# --- what goes to a worker ------------------------------------------------------------------------------------------


class _Request(NamedTuple):
    """A text to render, as it goes to a worker.

    Attributes:
        number: Its place among the texts asked for.
        text: The text.
        frame: Text and values as bytes.
        tried: A worker ended when it was its turn; the system may have ended it, for no fault of the text.
    """

    number: int
    text: Text
    frame: bytes
    tried: bool = False


def _encoded(text: Text) -> bytes:
    """Plain data as bytes; `marshal` knows no classes.

    Raises:
        FlantuneError: A value that is no plain data, or more than a worker takes.
    """
    try:
        frame = marshal.dumps((text.text, dict(text.values), text.what))
    except ValueError:
        wrong = next((name for name, value in text.values.items() if not _is_plain(value)), "")
        raise FlantuneError(f'{text.what}: field "{wrong}" is no plain data; cast it to text') from None
    if len(frame) > LARGEST_TEXT:
        raise FlantuneError(f"{text.what}: a row of more than {LARGEST_TEXT >> 20} MB; filter such rows")
    return frame


def _is_plain(value: Any) -> bool:
    try:
        marshal.dumps(value)
    except ValueError:
        return False
    return True


# --- a worker, as its parent sees it --------------------------------------------------------------------------------


class _Ended(Exception):
    """A worker ended, or must be.

    Attributes:
        why: What it did; follows the name of the template.
        by_chance: Whether another attempt may go well.
    """

    def __init__(self, why: str, *, by_chance: bool = False) -> None:
        super().__init__(why)
        self.why, self.by_chance = why, by_chance


class _Worker:
    """A worker process and its pipes.

    Attributes:
        todo: The requests that it has not answered yet, in order.
        silent: Seconds since it last said something.
        parent: The process that started it.
    """

    def __init__(self, seconds: float, memory_bytes: int) -> None:
        with tempfile.TemporaryFile() as shared:
            shared.truncate(LENGTH.size)
            self._progress = mmap.mmap(shared.fileno(), LENGTH.size)
            self.process = _started(seconds, memory_bytes, shared.fileno())
        self.stdin, self.stdout, self.stderr = cast(
            "tuple[IO[bytes], ...]", (self.process.stdin, self.process.stdout, self.process.stderr)
        )
        for pipe in (self.stdin, self.stdout, self.stderr):
            os.set_blocking(pipe.fileno(), False)
        self.seconds, self.parent = seconds, os.getpid()
        self.started, self.silent = False, 0.0
        self.todo: deque[_Request] = deque()
        self._size = 0
        self._outgoing, self._incoming = memoryview(b""), bytearray()

    def begin(self, batch: Sequence[_Request]) -> None:
        """Hands it some requests."""
        body = b"".join(LENGTH.pack(len(request.frame)) + request.frame for request in batch)
        self._outgoing = memoryview(LENGTH.pack(len(body)) + body)
        self.todo, self._size, self.silent = deque(batch), len(batch), 0.0
        LENGTH.pack_into(self._progress, 0, 0)

    def at(self) -> int:
        """Which of `todo` it was at when it ended."""
        begun = LENGTH.unpack_from(self._progress)[0] - 1 - (self._size - len(self.todo))
        return min(max(begun, 0), len(self.todo) - 1)

    def register(self, selector: selectors.BaseSelector) -> None:
        """Has a selector look out for what it says, and for room to speak to it."""
        selector.register(self.stdout, selectors.EVENT_READ, self)
        if self._outgoing:
            selector.register(self.stdin, selectors.EVENT_WRITE, self)

    def answers(self) -> Iterator[tuple[_Request, bytes, str]]:
        """Speaks and listens without waiting; gives the requests that it has answered, with kind and text.

        Raises:
            _Ended: Its process is gone, or says what no worker says.
        """
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            self._outgoing = self._outgoing[os.write(self.stdin.fileno(), self._outgoing[: 1 << 16]) :]
        with contextlib.suppress(BlockingIOError):
            said = os.read(self.stdout.fileno(), 1 << 18)
            if not said:
                raise self._gone()
            self._incoming += said
        for kind, text in self._frames():
            if kind == READY and not self.started:
                self.started = True
            elif kind in (RENDERED, REFUSED, STOPPED) and self.started and self.todo:
                yield self.todo.popleft(), kind, text
            else:
                raise _Ended(STRANGE)

    def _frames(self) -> Iterator[tuple[bytes, str]]:
        begin, head = 0, 1 + LENGTH.size
        while len(self._incoming) >= begin + head:
            (length,) = LENGTH.unpack_from(self._incoming, begin + 1)
            if length > LONGEST_ANSWER:
                raise _Ended(f"gives more than {LONGEST_ANSWER:,} bytes and was stopped")
            end = begin + head + length
            if len(self._incoming) < end:
                break
            try:
                said = self._incoming[begin + head : end].decode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                raise _Ended(STRANGE) from None
            yield bytes(self._incoming[begin : begin + 1]), said
            begin = end
        del self._incoming[:begin]

    def check_time(self) -> None:
        """Raises `_Ended` where it has been silent for too long."""
        if self.silent > (self.seconds + GRACE if self.started else START):
            if not self.started:
                raise self._gone()
            raise _Ended(_too_long(self.seconds))

    def _gone(self) -> _Ended:
        """Why it is gone.

        Raises:
            RuntimeError: It never began.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        code = self.process.poll()
        if not self.started:
            with contextlib.suppress(BlockingIOError):
                raise RuntimeError(f"no worker process could be started: {os.read(self.stderr.fileno(), 4_000)!r}")
            raise RuntimeError("no worker process could be started")
        if code == FORBIDDEN:
            return _Ended("did what no rendering does, and was stopped")
        told = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        return _Ended(f"ended its worker process ({told}); it is not rendered", by_chance=True)

    def end(self) -> None:
        """Kills the process, where it is this process's, and closes its pipes."""
        if self.parent == os.getpid():
            self.process.kill()
            self.process.wait()
            for pipe in (self.stdin, self.stdout, self.stderr):
                pipe.close()


def _started(seconds: float, memory_bytes: int, progress: int) -> subprocess.Popen[bytes]:
    script = Path(limits_worker.__file__)
    libraries = dict.fromkeys(str(Path(module.__file__ or "").parent.parent) for module in (jinja2, markupsafe))
    arguments = [seconds, memory_bytes, progress, script.parent.parent, *libraries]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-W", "ignore", str(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[progress],
        env=library_folders(),
        cwd="/",
        process_group=0,  # Ctrl-C reaches the parent alone
        bufsize=0,
    )


def _heard(workers: Sequence[_Worker]) -> set[_Worker]:
    """Those that have something to say, or room to listen, within a moment."""
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            worker.register(selector)
        return {key.data for key, _ in selector.select(SLICE)} if workers else set()


def _end_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().end()
