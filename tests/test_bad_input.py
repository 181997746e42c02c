"""What people get wrong, through the real command line: one line, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from flantune.cli import main
from runs import write_recipe

TASK = """\
name: mails
license: CC0-1.0
origins: [mails]
metrics: [accuracy]
source:
  kind: csv
  splits: {all: mails.csv}
templates:
  - name: short
    text: "Kind: {{ body }} ||| {{ kind }}"
"""
TABLE = "body,kind\nWhere is it?,question\nThank you.,praise\n"
KEYS = "adapter, allow_code, code_folder, evaluation, ledger, loggers, mixture, model, name, output, seed, tasks, ..."
STARTERS = (
    "starter/code_translation, starter/dialogue_summary, starter/dialogue_title, starter/entity_recognition, "
    "starter/instructions, starter/intent, starter/kept_behaviour, starter/kept_knowledge, starter/review_rating"
)
METRICS = (
    "accuracy, balanced_accuracy, bleu, chrf, code_parses, code_passes, edit_similarity, entity_f1, entity_f1_partial, "
    "exact_match, json_field_f1, json_valid, length_ratio, macro_f1, mean_absolute_error, pearson, perplexity, "
    "quadratic_kappa, rouge1, rouge2, rougeL, rougeLsum, rules_passed, spearman, ter, token_f1"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a task of two rows that has no mistake in it yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path.with_name(f"{tmp_path.name}-cache")))
    (tmp_path / "mails.yaml").write_text(TASK)
    (tmp_path / "mails.csv").write_text(TABLE)
    (tmp_path / "letters.csv").write_text(TABLE)
    return tmp_path


@pytest.fixture
def recipe(folder):
    """A recipe of tiny tasks and a tiny model that has no mistake in it yet."""
    return write_recipe(folder)


def change(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def everything_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def complaint(folder, monkeypatch, capsys, *arguments):
    """The one line that a command says before it ends with exit code 2, having written nothing."""
    before = everything_in(folder)
    monkeypatch.setattr(sys, "argv", ["flantune", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    out, err = capsys.readouterr()
    assert stopped.value.code == 2
    assert all(": note: " in line for line in out.splitlines())  # lint tells what else it saw
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert everything_in(folder) == before
    return err.removeprefix("error: ").removesuffix("\n")


def test_a_task_and_a_recipe_without_a_mistake_are_taken(recipe, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["flantune", "tasks", "lint", "mails.yaml", "words.yaml"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    assert capsys.readouterr().out == (
        "mails: 2 rows, 2 prompts, no error, 0 warnings, 0 notes\n"
        "words.yaml:1: warning: no `license`; say under what terms the rows may be used\n"
        "words: 52 rows, 156 prompts, no error, 1 warning, 0 notes\n"
    )
    monkeypatch.setattr(sys, "argv", ["flantune", "plan", str(recipe), "--json"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    assert json.loads(capsys.readouterr().out)["draws"] == 64


def test_a_task_that_cannot_be_read_does_not_hide_the_others(recipe, monkeypatch, capsys):
    """Two files are wrong, one before and one after a good one: each has its line, and the good one its own."""
    folder = recipe.parent
    (folder / "a.yaml").write_text("source: [\n", encoding="utf-8")
    (folder / "z.yaml").write_text("name: z\nsource:\n  kind: csf\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["flantune", "tasks", "lint", "a.yaml", "mails.yaml", "z.yaml"])
    with pytest.raises(SystemExit) as stopped:
        main()
    out, err = capsys.readouterr()
    assert stopped.value.code == 2
    assert out == "mails: 2 rows, 2 prompts, no error, 0 warnings, 0 notes\n"
    assert [line.partition(": ")[2].partition(":")[0] for line in err.splitlines()] == ["a.yaml", "z.yaml"]


# --- tasks --------------------------------------------------------------------------------------------------

# What is put in place of what, in which file, and what `flantune tasks lint mails.yaml` says.
TASK_MISTAKES = {
    "a file that is not there": (
        "mails.yaml",
        "{all: mails.csv}",
        "{all: mail.csv}",
        "mail.csv: no such file; check the path in the task's `source`",
    ),
    "an empty file": ("mails.csv", TABLE, "", "mails.csv: the file has no rows; give a file with at least one"),
    "a file of a header only": (
        "mails.csv",
        TABLE,
        "body,kind\n",
        "mails.csv: the file has no rows; give a file with at least one",
    ),
    "a row with too few fields": (
        "mails.csv",
        "Thank you.,praise",
        "Thank you.",
        "mails.csv:3: 1 field where 2 are wanted (body, kind); check each: quote it if it holds a comma or a line end",
    ),
    "a broken JSON line": (
        "mails.yaml",
        "kind: csv",
        "kind: jsonl",
        "mails.csv:1: not valid JSON at column 1: Expecting value; one JSON object a line is wanted",
    ),
    "a template that names a missing field": (
        "mails.yaml",
        "{{ body }}",
        "{{ boddy }}",
        'mails.yaml:9: template "short" asks for field "boddy", which the row lacks; did you mean "body"? (body, kind) '
        "(row at mails.csv:2; 2 rows in all)",
    ),
    "a template with an empty target": (
        "mails.csv",
        "Thank you.,praise",
        "Thank you.,",
        'mails.yaml:9: template "short" renders an empty target; filter such rows or change the template (row at '
        "mails.csv:3)",
    ),
    "a template without bars": (
        "mails.yaml",
        "|||",
        "||",
        'mails.yaml:9: template "short" has no "|||" between input and target; add it',
    ),
    "a template that leaves its sandbox": (
        "mails.yaml",
        "{{ body }}",
        "{{ body.__class__ }}",
        "mails.yaml:9: template \"short\" does what a template may not do: access to attribute '__class__' of 'str' "
        "object is unsafe. (row at mails.csv:2; 2 rows in all)",
    ),
    "an unknown key": (
        "mails.yaml",
        "metrics:",
        "metric:",
        'mails.yaml:4: metric: unknown key "metric"; did you mean "metrics"? (answer_choices, both_scorers, '
        "cluster, description, empty, evaluate_by, exemplar_formats, fields, language, license, max_new_tokens, "
        "metrics, ...)",
    ),
    "broken YAML": (
        "mails.yaml",
        "metrics: [accuracy]",
        "metrics: [accuracy",
        "mails.yaml:5: not valid YAML: expected ',' or ']', but got ':'",
    ),
    "a variable without a value": (
        "mails.yaml",
        "{all: mails.csv}",
        "{all: '${data}/mails.csv'}",
        "mails.yaml:5: the path '${data}/mails.csv' needs a value: put `variables: {data: ...}` into the recipe",
    ),
    "a variable of the environment in a path": (
        "mails.yaml",
        "{all: mails.csv}",
        "{all: '${env:DATA}/mails.csv'}",
        "mails.yaml:5: the path '${env:DATA}/mails.csv' names the environment, which is for source.url (kind: sql) "
        "alone; write ${NAME}, and put `variables: {NAME: ...}` into the recipe",
    ),
}


@pytest.mark.parametrize("mistake", TASK_MISTAKES)
def test_a_mistake_in_a_task_is_told_in_one_line(folder, monkeypatch, capsys, mistake):
    file, old, new, message = TASK_MISTAKES[mistake]
    change(folder / file, old, new)
    assert complaint(folder, monkeypatch, capsys, "tasks", "lint", "mails.yaml") == message


def test_what_a_file_holds_cannot_steer_the_terminal(folder, monkeypatch, capsys):
    change(folder / "mails.yaml", "kind: csv", 'kind: "\\e[31mred\\e[0m"')
    message = complaint(folder, monkeypatch, capsys, "tasks", "lint", "mails.yaml")
    assert "\x1b" not in message
    assert message.startswith("mails.yaml:6: source.kind: unknown value ")


COMMANDS = {
    ("tasks", "lint", "mail.yaml"): 'mail.yaml: no such file; did you mean "mails.yaml"? (mails.yaml)',
    ("tasks", "lint", "reviw_rating"): f"unknown task 'reviw_rating'; did you mean \"starter/review_rating\"? "
    f"({STARTERS}); your own task is named by the path of its .yaml file",
    ("tasks", "show", "starter/intent", "--row", "64"): "starter/intent: no row 64; the split has rows 0 to 63",
    ("init", "letters.csv", "--input", "body", "--target", "kid"): 'no column "kid"; did you mean "kind"? (body, kind)',
    ("init", "letter.csv"): 'letter.csv: no such file; did you mean "letters.csv"? (letters.csv, mails.csv)',
    ("plan", "recipe.yaml"): "recipe.yaml: no such file; known: mails.yaml",
    ("plan", "mails.csv"): "mails.csv: the file is not a mapping of keys to values; `key: value` lines are wanted",
}


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_command_that_cannot_be_done_is_told_in_one_line(folder, monkeypatch, capsys, arguments):
    assert complaint(folder, monkeypatch, capsys, *arguments) == COMMANDS[arguments]


# --- recipes ------------------------------------------------------------------------------------------------

# What is put in place of what in recipe.yaml, and what `flantune plan recipe.yaml` says.
RECIPE_MISTAKES = {
    "an unknown key": (
        "evaluation:",
        "evaluations:",
        f'recipe.yaml:7: evaluations: unknown key "evaluations"; did you mean "evaluation"? ({KEYS})',
    ),
    "a key of another trainer": (
        "name: small",
        "lora_r: 8",
        'recipe.yaml:1: lora_r: unknown key "lora_r"; it is called adapter.rank here',
    ),
    "an unknown rule": (
        "rates: equal",
        "rates: proportionl",
        'recipe.yaml:5: mixture.rates: unknown value "proportionl"; did you mean "proportional"? (equal, explicit, '
        "proportional, temperature)",
    ),
    "an unknown task": (
        "[words.yaml, ",
        "[starter/dialog_summary, ",
        f"unknown task 'starter/dialog_summary'; did you mean \"starter/dialogue_summary\"? ({STARTERS}); your own "
        "task is named by the path of its .yaml file",
    ),
    "a task file that is not there": (
        "[words.yaml, ",
        "[word.yaml, ",
        '{folder}/word.yaml: no such file; did you mean "words.yaml"? '
        "(mails.yaml, other.yaml, recipe.yaml, verdict.yaml, words.yaml)",
    ),
}


@pytest.mark.parametrize("mistake", RECIPE_MISTAKES)
def test_a_mistake_in_a_recipe_is_told_in_one_line(folder, recipe, monkeypatch, capsys, mistake):
    old, new, message = RECIPE_MISTAKES[mistake]
    change(recipe, old, new)
    assert complaint(folder, monkeypatch, capsys, "plan", "recipe.yaml") == message.format(folder=folder)


def test_an_unknown_metric_is_told_with_its_line(folder, recipe, monkeypatch, capsys):
    change(folder / "words.yaml", "metrics: [rouge1, exact_match]", "metrics: [rouge1, acuracy]")
    assert complaint(folder, monkeypatch, capsys, "plan", "recipe.yaml") == (
        f'{folder}/words.yaml:10: metrics: unknown metric "acuracy"; did you mean "accuracy"? ({METRICS})'
    )


def test_a_task_that_is_trained_on_and_unseen_is_told(folder, recipe, monkeypatch, capsys):
    change(recipe, "unseen: [other.yaml]", "unseen: [words.yaml]")
    change(folder / "words.yaml", "origins: [words]\n", "")
    assert complaint(folder, monkeypatch, capsys, "plan", "recipe.yaml") == (
        "recipe.yaml:4: task words stands twice among `tasks` and `unseen`; trained tasks are evaluated anyway, so "
        "remove one"
    )


def test_an_unseen_task_of_an_origin_that_is_trained_on_is_told(folder, recipe, monkeypatch, capsys):
    change(folder / "other.yaml", "origins: [other]", "origins: [web, words]")
    assert complaint(folder, monkeypatch, capsys, "plan", "recipe.yaml") == (
        "recipe.yaml:4: unseen task other shares its origin words with the trained task words (recipe.yaml:3); hold "
        "both out, do not call it unseen, or allow it: ledger: {allow: [[words, other]]}"
    )


def test_a_row_that_a_template_does_not_fit_is_told_before_anything_is_written(folder, recipe, monkeypatch, capsys):
    change(folder / "words-train.jsonl", '"text": "birch jetty birch train 20"', '"txt": "birch jetty birch train 20"')
    message = complaint(folder, monkeypatch, capsys, "plan", "recipe.yaml")
    assert message.startswith(f"{folder}/words.yaml:")
    assert message.endswith(
        ' asks for field "text", which the row lacks; did you mean "txt"? (answer, txt) (row at '
        f"{folder}/words-train.jsonl:21)"
    )


ARGUMENTS = {
    "trainin.draws=5": f'trainin: unknown key "trainin"; did you mean "training"? ({KEYS})',
    "training.drws=5": 'unknown key "drws"; did you mean "draws"? (activation_checkpointing, average, '
    "betas, checkpoint_every, compile, cooldown, draws, epochs, keep_checkpoints, learning_rate, loss, "
    "master_weights, ...)",
    "training.draws=many": 'a whole number is wanted, not "many"',
    "training.draws": "not of the form key=value; write for example training.epochs=2",
    "tasks.2.share=0.1": 'no item "2"; its items are numbered 0 to 1',
    "tasks.0.share=1.5": "must be less than 1, not 1.5",
}


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_a_mistake_in_an_argument_is_told_in_one_line(folder, recipe, monkeypatch, capsys, argument):
    assert (
        complaint(folder, monkeypatch, capsys, "plan", "recipe.yaml", argument) == f"{argument}: {ARGUMENTS[argument]}"
    )


# --- processes of their own ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tasks", "lint", "mails.yaml"], "mails.csv: the file has no rows; give a file with at least one"),
        (["plan", "recipe.yaml"], "recipe.yaml: no such file; known: mails.yaml"),
        (["train", "no/recipe.yaml", "seed"], "no/recipe.yaml: no such file; look at its folder, no"),
    ],
)
def test_a_process_says_one_line_and_ends_with_exit_code_2(folder, arguments, message):
    (folder / "mails.csv").write_text("")
    before = everything_in(folder)
    command = [sys.executable, "-m", "flantune", *arguments]
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env={**os.environ, "PYTHONWARNINGS": ""}
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"error: {message}\n")
    assert everything_in(folder) == before
