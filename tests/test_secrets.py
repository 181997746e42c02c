"""What a run reads of the environment and of addresses to get in somewhere appears in nothing that it writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runs import flantune, write_recipe

pytestmark = pytest.mark.slow

TOKENS = {
    "HF_TOKEN": "hf_canaryOfTheHub0123456789abcdefgh",
    "WANDB_API_KEY": "canary0of0weights0and0biases0abcdef01234",
    "MLFLOW_TRACKING_PASSWORD": "canary-of-mlflow",
    "AWS_SECRET_ACCESS_KEY": "canary/of/aws/abcdefghijklmnop",
    "OPENAI_API_KEY": "sk-canary-of-a-judge",
    "REVIEWS_URL": "http://reader:canary-in-a-url@127.0.0.1:9/reviews.csv",
    "DATABASE_URL": "postgresql+psycopg://reader:canary-of-a-database@127.0.0.1:9/shop",
}
PLANTED = [*TOKENS.values(), "canary"]
# What is changed in the recipe that works, or added to its command line, and what the one line says of it.
FAILURES = {
    "an unknown key": (["training.learning_speed=1"], "learning_speed"),
    "a value off its range": (["training.draws=0"], "draws"),
    "an unknown task": (["tasks=[nowhere.yaml]"], "nowhere.yaml"),
    "an unknown model": (["model=nobody/nothing"], "nobody/nothing"),
    "a model that is no model": (["model=recipe.yaml"], "recipe.yaml"),
    "a learning rate that destroys": (["training.learning_rate=1e30"], "learning_rate"),
    "a logger that is not there": (["loggers=[nothing]"], "loggers"),
    "an address without a value": (["tasks=[behind_address.yaml]"], "REVIEWS_URL"),
    "a database that is not there": (["tasks=[in_database.yaml]"], "in_database.yaml"),
    "a folder that is taken": (["output=run"], "run"),
}


def write_tasks(folder: Path) -> None:
    """A task behind an address, and one in a database, that no one answers at."""
    text = (folder / "words.yaml").read_text()
    head, _, rest = text.partition("source:\n")
    templates = rest[rest.index("evaluate_by:") :]
    sources = {
        "behind_address": "  kind: csv\n  splits: {train: '${env:REVIEWS_URL}', test: '${env:REVIEWS_URL}'}\n",
        "in_database": "  kind: sql\n  url: ${env:DATABASE_URL}\n  splits: {train: SELECT 1, test: SELECT 1}\n",
    }
    for name, source in sources.items():
        whole = f"{head}source:\n{source}{templates}".replace("name: words", f"name: {name}", 1)
        (folder / f"{name}.yaml").write_text(whole)


def found(folder: Path) -> Iterator[str]:
    """Names of files that hold a planted secret."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in PLANTED):
            yield str(path.relative_to(folder))


def test_no_planted_secret_is_in_any_output_of_a_run_and_of_ten_that_fail(tmp_path, monkeypatch):
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)
    recipe, cache = write_recipe(tmp_path), tmp_path / "cache"
    write_tasks(tmp_path)
    assert list(found(tmp_path)) == []
    done = flantune("train", recipe, "loggers=[tensorboard]", "training.draws=16", cache=cache, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").exists()
    said = [done]
    for number, (what, (changes, told)) in enumerate(FAILURES.items()):
        given = [f"output=failed-{number}", *changes]
        failed = flantune("train", recipe, "--no-compare", *given, cache=cache, cwd=tmp_path)
        assert failed.returncode == 2, (what, failed.stderr)
        line = failed.stderr.splitlines()[-1]
        assert line.startswith("error: "), (what, failed.stderr)
        assert told in line, (what, line)
        said.append(failed)
    for ended in said:
        assert not any(secret in ended.stdout + ended.stderr for secret in PLANTED), ended.args
    assert list(found(tmp_path)) == []
