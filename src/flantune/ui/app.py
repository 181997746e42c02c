"""The pages and what they ask for: each function answers one address."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from flantune.errors import FlantuneError
from flantune.reporting.curves import training_view
from flantune.reporting.formats import SYMBOLS, main_metrics
from flantune.reporting.html import PAGE as REPORT_PAGE
from flantune.reporting.html import page_environment, sources
from flantune.reporting.mixture_view import mixture_view
from flantune.reporting.second_opinion import opinion_in_short, opinion_view
from flantune.reporting.verdict_view import verdict_view
from flantune.tasks import find_task
from flantune.tasks.find import task_names
from flantune.ui.playground import MOST_CHARACTERS, MOST_TOKENS, Models, Question, prompts, tasks_of_run
from flantune.ui.runs import Run, Runs, summary

PAGE = Path(__file__).parent / "page"
LOOKS = 0.5  # seconds between looks at a file that may grow
POINTS = 1500  # of a curve
# A report is a file that anyone may have written: its script runs in an origin of its own, without the page's cookie.
SANDBOX = "sandbox allow-scripts; frame-ancestors 'none'"


class Pages:
    """Answers of all addresses.

    Args:
        runs: The runs that may be seen.
        stopped: Whether the server is about to end; streams end then.
    """

    def __init__(self, runs: Runs, stopped: Callable[[], bool]) -> None:
        self.runs, self.stopped, self.models = runs, stopped, Models()
        self.templates = page_environment(PAGE, REPORT_PAGE)
        self.static = {**sources(REPORT_PAGE), **sources(PAGE)}

    def app(self) -> Starlette:
        """The application, without its guard."""
        return Starlette(
            routes=[
                Route("/", self.all_runs),
                Route("/events", self.events),
                Route("/run", self.run),
                Route("/report", self.report),
                Route("/tasks", self.tasks),
                Route("/task", self.task),
                Route("/play", self.play),
                Route("/prompts", self.prompts),
                Route("/ask", self.ask, methods=["POST"]),
                Route("/static/{name}", self.file),
            ],
            exception_handlers={FlantuneError: self.mistake, 404: self.nothing},
        )

    def page(self, template: str, status: int = 200, **view: Any) -> HTMLResponse:
        """A page of a template."""
        return HTMLResponse(self.part(template, **view), status)

    def part(self, template: str, **view: Any) -> str:
        """A page, or a part of one, as text."""
        symbols = SYMBOLS | {"equivalent": "="}
        return self.templates.get_template(template).render(symbols=symbols, folder=self.runs.folder.name, **view)

    async def mistake(self, request: Request, error: Exception) -> Response:
        """A mistake in one line, for a page or for a script."""
        if request.headers.get("accept", "").startswith("application/json"):
            return JSONResponse({"error": str(error)}, 400)
        return self.page("mistake.html.j2", 404, message=str(error))

    async def nothing(self, request: Request, error: Exception) -> Response:
        """An address that leads nowhere."""
        return self.page("mistake.html.j2", 404, message="There is nothing here.")

    def file(self, request: Request) -> Response:
        """A style sheet or script of the package."""
        name = request.path_params["name"]
        if name not in self.static:
            return Response(status_code=404)
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        return Response(str(self.static[name]), media_type=kind)

    # Runs

    def _list(self) -> str:
        return self.part("run_list.html.j2", runs=[summary(self.runs, run) for run in self.runs.all()])

    def all_runs(self, request: Request) -> Response:
        """All runs, the one that was changed last first."""
        return self.page("runs.html.j2", listed=self._list())

    def _run(self, request: Request) -> Run:
        return self.runs.get(request.query_params.get("name", ""))

    def _live(self, run: Run) -> str:
        """What changes while a run trains: state, progress, curves."""
        plan = run.json("plan.json") or {}
        log = self.runs.log(run)
        names = [task["task"] for task in plan.get("tasks", ())]
        told = summary(self.runs, run)
        curves = training_view(log.steps(POINTS), names, run.validations())
        return self.part("live.html.j2", told=told, training=curves)

    def run(self, request: Request) -> Response:
        """One run: its verdict where it has one, its curves, its mixture, its recipe."""
        run = self._run(request)
        plan, comparison = run.json("plan.json"), run.json("comparison.json")
        recipe = run.folder / "recipe.yaml"
        verdict = verdict_view(comparison) if comparison and main_metrics(comparison) else None
        opinion = opinion_view(run.json)
        return self.page(
            "run.html.j2",
            run=run,
            live=self._live(run),
            plan=plan,
            verdict=verdict,
            opinion=opinion_in_short(opinion) if opinion else None,
            mixture=mixture_view(run.json("mixture.json"), plan),
            report=(run.folder / "report.html").is_file(),
            trained=(run.folder / "model").is_dir(),
            recipe=recipe.read_text(encoding="utf-8", errors="replace"),
        )

    def report(self, request: Request) -> Response:
        """The report of a run, as the file that it is."""
        path = self._run(request).folder / "report.html"
        if not path.is_file() or not path.resolve().is_relative_to(self.runs.folder):
            raise FlantuneError("the run has no report yet; flantune compare writes it")
        return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": SANDBOX})

    async def events(self, request: Request) -> Response:
        """Server-sent events: a part of a page again whenever it changed, of the run `name` or of the list of runs."""
        if "name" in request.query_params:
            run = await run_in_threadpool(self._run, request)
            return StreamingResponse(self._changes(lambda: self._live(run)), media_type="text/event-stream")
        return StreamingResponse(self._changes(self._list), media_type="text/event-stream")

    async def _changes(self, make: Callable[[], str]) -> AsyncIterator[str]:
        sent = ""  # the first goes out at once: the page may be older than this connection
        yield "retry: 2000\n\n"
        while not self.stopped():
            await anyio.sleep(LOOKS)
            now = await run_in_threadpool(make)
            if now != sent:
                sent = now
                yield f"data: {json.dumps(now)}\n\n"
            else:
                yield ": nothing new\n\n"  # a browser that has gone is noticed by this

    # Tasks

    def _task(self, request: Request) -> Any:
        """The task that is asked for: one of a run's recipe, or one that is installed."""
        name, run = request.query_params.get("task", ""), request.query_params.get("name")
        known = tasks_of_run(self.runs.get(run)) if run is not None else {}
        if name in known:
            return known[name]
        if run is None and name in task_names():
            return find_task(name)
        raise FlantuneError("there is no such task")

    def tasks(self, request: Request) -> Response:
        """The tasks of a run, or the installed ones."""
        run = self._run(request) if "name" in request.query_params else None
        found = tasks_of_run(run).values() if run is not None else (find_task(name) for name in task_names())
        listed = [
            {
                "name": task.name,
                "cluster": task.spec.cluster,
                "splits": task.split_names(),
                "templates": len(task.templates),
                "metrics": task.spec.metrics,
                "license": task.spec.license,
            }
            for task in found
        ]
        return self.page("tasks.html.j2", run=run, tasks=listed)

    def _prompts(self, request: Request) -> dict[str, Any]:
        row = request.query_params.get("row", "0")
        if not row.isdecimal() or len(row) > 12:
            raise FlantuneError("a row is a number from 0")
        return prompts(self._task(request), split=request.query_params.get("split") or None, row=int(row))

    def task(self, request: Request) -> Response:
        """A row of a task in all templates."""
        run = self.runs.get(request.query_params["name"]) if "name" in request.query_params else None
        return self.page("task.html.j2", run=run, shown=self._prompts(request))

    def prompts(self, request: Request) -> Response:
        """The same for a script."""
        return JSONResponse(self._prompts(request))

    # Playground

    def play(self, request: Request) -> Response:
        """Base and tuned model side by side."""
        runs = [run for run in self.runs.all() if (run.folder / "model").is_dir()]
        name = request.query_params.get("name")
        run = self.runs.get(name) if name is not None else next(iter(runs), None)
        known: list[str] = []
        problem = None
        if run is not None:
            try:
                known = list(tasks_of_run(run))
            except FlantuneError as error:  # its files may lie elsewhere by now; one can still ask freely
                problem = str(error)
        return self.page("play.html.j2", run=run, runs=runs, tasks=known, problem=problem, most=MOST_TOKENS)

    async def ask(self, request: Request) -> Response:
        """What both models answer: lines of JSON as they come, or one list where `stream` is false."""
        try:
            asked = await request.json()
        except ValueError:
            raise FlantuneError("the request is no JSON") from None
        run, question = await run_in_threadpool(self._asked, asked)
        gone = False

        def stopped() -> bool:
            return gone or self.stopped()

        pieces = iterate_in_threadpool(self._told(run, question, stopped))
        if not asked.get("stream", True):
            whole = [piece async for piece in pieces if "error" in piece or piece["finished"] is not None]
            return JSONResponse(whole)

        async def lines() -> AsyncIterator[str]:
            nonlocal gone
            try:
                async for piece in pieces:
                    yield json.dumps(piece) + "\n"
            finally:
                gone = True

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    def _told(self, run: Run, question: Question, stopped: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        try:
            yield from self.models.answers(run, question, stopped=stopped)
        except FlantuneError as error:
            yield {"error": str(error)}

    def _asked(self, asked: Any) -> tuple[Run, Question]:
        if not isinstance(asked, Mapping) or not isinstance(asked.get("text"), str) or not asked["text"].strip():
            raise FlantuneError("nothing is asked")
        text, most = asked["text"], asked.get("max_new_tokens", 200)
        if len(text) > MOST_CHARACTERS:
            raise FlantuneError(f"a question has at most {MOST_CHARACTERS:,} characters")
        if not isinstance(most, int) or not 1 <= most <= MOST_TOKENS:
            raise FlantuneError(f"an answer has 1 to {MOST_TOKENS} tokens")
        run = self.runs.get(str(asked.get("name")))
        return run, Question(self._same(run, asked, text), most)

    def _same(self, run: Run, asked: Mapping[str, Any], text: str) -> str:
        """The prompt of the template that was chosen, if nobody changed it: one of several turns keeps its roles."""
        chosen = asked.get("prompt")
        if not isinstance(chosen, Mapping):
            return text
        task = tasks_of_run(run).get(str(chosen.get("task")))
        if task is None or not isinstance(chosen.get("row"), int) or chosen["row"] < 0:
            return text
        shown = prompts(task, split=str(chosen.get("split")), row=chosen["row"])
        for prompt in shown["prompts"]:
            if prompt["template"] == chosen.get("template") and prompt.get("input") == text:
                return prompt["input"]
        return text
