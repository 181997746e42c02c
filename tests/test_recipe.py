"""Recipes: YAML and arguments become one validated object, and every mistake is told with its place."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import flantune
from flantune.errors import FlantuneError
from flantune.quickstart import RECIPE, quickstart_recipe
from flantune.recipe import Recipe, apply_overrides, load_recipe, recipe_from
from flantune.recipe.load import run_name
from flantune.recipe.schema import PEER_NAMES
from flantune.recipe.yaml_file import parse_value, read_yaml
from flantune.run_folder import read_recipe, write_recipe
from flantune.tasks import find_task

SECTIONS = {
    "top": "adapter, allow_code, code_folder, evaluation, ledger, loggers, mixture, model, name, output, seed, "
    "tasks, ...",
    "model": "name, revision, system",
    "task": "task, share, weight, cap, floor, max_epochs, loss_weight, train_rows, templates, inverted, "
    "options, few_shot",
}


def written(folder, text, name="recipe.yaml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def told(call, *arguments):
    """The whole text of a user's mistake."""
    with pytest.raises(FlantuneError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what a file means --------------------------------------------------------------------------------------


def test_the_smallest_recipe_names_one_task_and_takes_the_rest_from_defaults(tmp_path):
    recipe = load_recipe(written(tmp_path, "tasks: [starter/intent]\n", "mine.yaml"))
    assert recipe == Recipe.model_validate({"name": "mine", "tasks": ["starter/intent"]})
    assert recipe.model.name == "smollm2-135m-instruct"
    assert (recipe.seed, recipe.unseen, recipe.output) == (0, (), None)
    assert recipe.mixture.rates == "proportional"
    assert recipe.training.loss.per == "task"
    assert recipe.adapter.method == "none"


def test_a_bare_name_stands_for_a_model_and_for_a_task(tmp_path):
    short = load_recipe(written(tmp_path, "model: org/name\ntasks: [a, {task: b}]\nunseen: [c]\n"))
    long = load_recipe(written(tmp_path, "model: {name: org/name}\ntasks: [{task: a}, {task: b}]\nunseen: [{task: c}]"))
    assert short == long
    assert [one.choice.task for one in short.trained()] == ["a", "b"]


def test_a_recipe_cannot_be_changed():
    recipe = recipe_from({"tasks": ["a"]})
    with pytest.raises(ValidationError):
        recipe.seed = 1  # pyrefly: ignore
    with pytest.raises(ValidationError):
        recipe.training.epochs = 2  # pyrefly: ignore


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("mine.yaml", "mine"),
        ("My Recipe (2).yaml", "my-recipe-2"),
        ("Übung.yaml", "bung"),
        (".hidden.yml", "hidden"),
        ("日本.yaml", "run"),
        (f"{'x' * 80}.yaml", "x" * 64),
    ],
)
def test_a_recipe_without_a_name_is_called_like_its_file(tmp_path, file, name):
    assert load_recipe(written(tmp_path, "tasks: [a]\n", file)).name == name


@settings(deadline=None)
@given(text=st.text())
def test_any_text_gives_a_name_that_a_run_may_have(text):
    assert recipe_from({"name": run_name(text), "tasks": ["a"]}).name == run_name(text)


def test_paths_are_taken_from_the_folder_of_the_recipe(tmp_path):
    (tmp_path / "tiny").mkdir()
    text = """\
model: tiny
tasks: [tasks/mails.yaml, ../other.yml, starter/intent]
unseen: [unseen.yaml]
variables: {data: ./data, above: ../x, word: nowhere}
"""
    recipe = load_recipe(written(tmp_path, text))
    assert recipe.model.name == str(tmp_path / "tiny")
    assert [choice.task for choice in (*(one.choice for one in recipe.trained()), *recipe.unseen)] == [
        str(tmp_path / "tasks" / "mails.yaml"),
        str(tmp_path.parent / "other.yml"),
        "starter/intent",
        str(tmp_path / "unseen.yaml"),
    ]
    above = str(tmp_path.parent / "x")
    assert recipe.variables == {"data": str(tmp_path / "data"), "above": above, "word": "nowhere"}


def test_the_packaged_recipe_names_tasks_that_there_are():
    recipe = load_recipe(RECIPE)
    assert recipe == quickstart_recipe() == flantune.Recipe.load(RECIPE)
    for choice in (*(one.choice for one in recipe.trained()), *recipe.unseen):
        find_task(choice.task)


# --- YAML ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["1e-4", "1E-4", "1.0e-4", ".0001", "0.0001", "+1e-4", "100e-6"])
def test_a_number_in_any_notation_is_a_number(tmp_path, number):
    text = f"tasks: [a]\ntraining: {{learning_rate: {number}}}\n"
    assert load_recipe(written(tmp_path, text)).training.learning_rate == 1e-4
    assert load_recipe(written(tmp_path, "tasks: [a]"), [f"training.learning_rate={number}"]).training == (
        load_recipe(written(tmp_path, text)).training
    )


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "y", "n", "Yes", "NO", "1:30", "1e", "0x", "1_a"])
def test_words_that_older_yaml_took_for_something_else_stay_text(tmp_path, word):
    recipe = load_recipe(written(tmp_path, f"tasks: [{word}]\nvariables: {{{word}: {word}}}\nmodel: {word}"))
    assert recipe.trained()[0].choice.task == recipe.model.name == word
    assert recipe.variables == {word: word}
    assert parse_value(word) == word


def test_json_is_yaml_also_where_it_writes_an_emoji_in_two_halves(tmp_path):
    data = {"tasks": ["a"], "model": {"name": "m", "system": "Be kind 🙂 \u2028 \x7f"}}
    assert load_recipe(written(tmp_path, json.dumps(data))).model.system == data["model"]["system"]


def test_anchors_and_merges_are_followed(tmp_path):
    text = "tasks:\n  - &base {task: a, loss_weight: 2}\n  - {<<: *base, task: b}\n"
    chosen = [one.choice for one in load_recipe(written(tmp_path, text)).trained()]
    assert [(choice.task, choice.loss_weight) for choice in chosen] == [("a", 2), ("b", 2)]


YAML_MISTAKES = {
    "a key twice": (
        "tasks: [a]\nseed: 1\nseed: 2\n",
        ':3: not valid YAML: found duplicate key "seed" with value "2" (original value: "1")',
    ),
    "a tab": (
        "tasks:\n\t- a\n",
        r":2: not valid YAML: found character '\t' that cannot start any token; indent with spaces, not with tabs",
    ),
    "an open bracket": ("tasks: [a\nseed: 1\n", ":2: not valid YAML: expected ',' or ']', but got ':'"),
    "an open quote": ("name: 'x\ntasks: [a]\n", ":3: not valid YAML: found unexpected end of stream"),
    "two colons": ("name: a: b\n", ":1: not valid YAML: mapping values are not allowed here"),
    "an unknown alias": ("tasks: *all\n", ":1: not valid YAML: found undefined alias 'all'"),
    "two documents": ("tasks: [a]\n---\nseed: 1\n", ":2: not valid YAML: but found another document"),
    "a control character": (
        "name: \x01\n",
        ": not valid YAML: unacceptable character #x0001: special characters are not allowed in "
        '"<unicode string>", position 6',
    ),
    "an empty file": ("", ": the file is empty; `key: value` lines are wanted"),
    "only a comment": ("# tasks: [a]\n", ": the file is empty; `key: value` lines are wanted"),
    "a list": ("- tasks\n", ": the file is not a mapping of keys to values; `key: value` lines are wanted"),
    "a word": ("tasks\n", ": the file is not a mapping of keys to values; `key: value` lines are wanted"),
    "aliases that multiply": (
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)),
        ": not valid YAML: its aliases make it larger than 100,000 values",
    ),
    "brackets without end": ("tasks: " + "[" * 500, ": not usable YAML: nested too deeply"),
}


@pytest.fixture
def usual_depth():
    """Python's own limit of calls inside calls: what compiles models raises it for the whole process."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.usefixtures("usual_depth")
@pytest.mark.parametrize("mistake", YAML_MISTAKES)
def test_what_is_no_usable_yaml_is_told_with_its_line(tmp_path, mistake):
    text, message = YAML_MISTAKES[mistake]
    path = written(tmp_path, text)
    assert told(load_recipe, path) == f"{path}{message}"


def test_a_file_in_another_encoding_is_told(tmp_path):
    (tmp_path / "r.yaml").write_bytes("name: grüße\n".encode("latin-1"))
    assert told(load_recipe, tmp_path / "r.yaml") == f"{tmp_path}/r.yaml: not UTF-8 text (byte 8); save it as UTF-8"


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    assert told(load_recipe, tmp_path / "r.yaml") == f"{tmp_path}/r.yaml: no such file; no .yaml file is beside it"
    assert told(load_recipe, tmp_path) == f"{tmp_path}: is a folder; a YAML file is wanted here"


def test_lines_are_counted_to_the_deepest_key_that_the_file_has(tmp_path):
    file = read_yaml(written(tmp_path, "a:\n  - x\n  - b: 1\n    c:\n      d: 2\n"))
    lines = {("a",): 1, ("a", 0): 2, ("a", 1, "b"): 3, ("a", 1, "c", "d"): 5, ("a", 1, "c", "e"): 4, ("z",): None}
    assert {place: file.line(place) for place in lines} == lines


# --- mistakes in a recipe -----------------------------------------------------------------------------------

MISTAKES = {
    "mixtur: {}": f':2: mixtur: unknown key "mixtur"; did you mean "mixture"? ({SECTIONS["top"]})',
    "epoch: 2": f':2: epoch: unknown key "epoch"; known: {SECTIONS["top"]}',
    "training:\n  learning_rte: 1": ':3: training.learning_rte: unknown key "learning_rte"; did you mean '
    '"learning_rate"? (activation_checkpointing, average, betas, checkpoint_every, compile, cooldown, draws, epochs, '
    "keep_checkpoints, learning_rate, loss, master_weights, ...)",
    "training: {loss: {par: token}}": ':2: training.loss.par: unknown key "par"; did you mean "per"? '
    "(label_smoothing, per, z_loss)",
    "mixture: {rates: proportionl}": ':2: mixture.rates: unknown value "proportionl"; did you mean "proportional"? '
    "(equal, explicit, proportional, temperature)",
    "adapter: {method: 8}": ':2: adapter.method: unknown value "8"; known: dora, ia3, lora, none, prefix_tuning, '
    "prompt_tuning, qlora, rslora",
    "adapter: {method: p_tuning}": ":2: adapter.method: it is not offered; choose prompt_tuning, whose learned tokens "
    'need no network to make them, not "p_tuning"',
    "adapter: {method: prefix_tuning}\ntraining: {activation_checkpointing: true}": ":3: "
    "training.activation_checkpointing: layers that are computed again see no learned prefix; remove it, or choose "
    "prompt_tuning",
    "training: {precision: fp16}": ":2: training.precision: float16 has no room for the activations of T5 (above "
    '65,504), and small gradients vanish in it; choose bf16, which takes as much memory, or fp32, not "fp16"',
    "adapter: {method: qlora}\ntraining: {sharding: full}": ":3: training.sharding: a base in 4 bits is not cut in "
    "parts; choose lora, or set `sharding: none`",
    "name: My Run": ":2: name: a name is 1 to 64 of a-z, 0-9, _, . and -, and starts with a letter or digit, not "
    '"My Run"',
    "name: 5": ":2: name: text is wanted, not 5; put quotes around it",
    "name:": ":2: name: text is wanted, not nothing",
    "seed: 1.5": ":2: seed: a whole number is wanted, not 1.5",
    "seed: yes": ':2: seed: a whole number is wanted, not "yes"',
    "seed: -1": ":2: seed: must be at least 0, not -1",
    "training: {learning_rate: fast}": ':2: training.learning_rate: a number is wanted, not "fast"',
    "training: {learning_rate: 0}": ":2: training.learning_rate: must be greater than 0, not 0",
    "training: {learning_rate: .inf}": ":2: training.learning_rate: a finite number is wanted, not .inf",
    "training: {epochs: .nan}": ":2: training.epochs: a finite number is wanted, not .nan",
    "training: {warmup: 1}": ":2: training.warmup: must be less than 1, not 1",
    "training: {compile: maybe}": ':2: training.compile: true or false is wanted, not "maybe"',
    "training: {betas: 0.9}": ":2: training.betas: a list is wanted, such as [0.9]",
    "training: {betas: [0.9]}": ":2: training.betas.1: is missing; add it",
    "training: {rows_at_once: 4}": ":2: training.rows_at_once: must be at most training.rows_per_step, which is 2",
    "model: 5": f":2: model: 5 where keys and values are wanted ({SECTIONS['model']})",
    "model: ''": ":2: model: is empty; give a value, or leave the key out",
    "model:": f":2: model: nothing where keys and values are wanted ({SECTIONS['model']})",
    "adapter: lora": ':2: adapter: "lora" where keys and values are wanted (method, rank, alpha, dropout, '
    "target_modules, virtual_tokens)",
    "adapter: {target_modules: q_proj}": ":2: adapter.target_modules: a list is wanted, such as [q_proj]",
    "unseen: starter/intent": ":2: unseen: a list is wanted, such as [starter/intent]",
    "unseen: [3]": f":2: unseen.0: 3 where keys and values are wanted ({SECTIONS['task']})",
    "unseen:\n  - b\n  - {task: c, share: 0.1}": ":4: unseen.1.share: c is not trained on; remove `share`",
    "unseen: [{task: c, train_rows: 9}]": ":2: unseen.0.train_rows: c is not trained on; remove `train_rows`",
    "variables: {data: 5}": ":2: variables.data: text is wanted, not 5; put quotes around it",
    "variables: [data]": ":2: variables: a list where keys and values are wanted",
    "evaluation: {rows: 1}": ":2: evaluation.rows: must be at least 2, not 1",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_line_field_value_and_remedy(tmp_path, mistake):
    path = written(tmp_path, f"tasks: [a]\n{mistake}\n")
    assert told(load_recipe, path) == f"{path}{MISTAKES[mistake]}"


# Each value is right alone; a schema has no words for what does not go together.
COMBINATIONS = {
    "training: {schedule: inverse_square_root, warmup: 0}": ":2: training.warmup: inverse_square_root falls from the "
    "end of the warm-up; give a share above 0",
    "training: {schedule: warmup_stable_decay, warmup: 0.5, cooldown: 0.6}": ":2: training.cooldown: must be at most "
    "1 - warmup, which is 0.5",
    "training: {optimizer: schedule_free}": ":2: training.schedule: schedule_free takes the place of a schedule; set "
    "`schedule: constant`",
    "training: {optimizer: schedule_free, schedule: constant, average: 0.9}": ":2: training.average: schedule_free "
    "averages the weights itself; remove `average`",
    "training: {optimizer: schedule_free, schedule: constant, master_weights: false}": ":2: training.master_weights: "
    "schedule_free needs them; remove it, or choose another optimizer",
    "training: {optimizer: muon, sharding: full}": ":2: training.optimizer: what muon remembers of a weight cannot be "
    "cut in parts; choose adamw or schedule_free, or set `sharding: none`",
    "training: {sharding: hybrid, master_weights: false}": ":2: training.master_weights: sharded weights are masters; "
    "remove it, or set `sharding: none`",
    "training: {sharding: full}\nvalidation: {every: 5}": ":2: training.sharding: a model in parts answers no "
    "questions while it trains; set `sharding: none`, or validation.every to 0",
    "training: {precision: fp32, master_weights: false}": ":2: training.master_weights: weights in fp32 need no copy; "
    "remove it, or set `precision: bf16`",
    "training: {pull: 0.1}\nadapter: {method: lora}": ":2: training.pull: an adapter leaves the base as it is, and is "
    "pulled to nothing by `weight_decay`; remove `pull`",
}


@pytest.mark.parametrize("mistake", COMBINATIONS)
def test_what_does_not_go_together_is_told_with_what_to_change(tmp_path, mistake):
    path = written(tmp_path, f"tasks: [a]\n{mistake}\n")
    assert told(load_recipe, path) == f"{path}{COMBINATIONS[mistake]}"


TASKS_MISTAKES = {
    "seed: 1": ": tasks: is missing; add it",
    "tasks: []": ":1: tasks: is empty; give at least one",
    "tasks: a": ":1: tasks: a list is wanted, such as [a]",
    "tasks: {task: a}": ":1: tasks: a list is wanted, not a mapping of keys to values",
    "tasks:\n  - share: 0.1": ":2: tasks.0.task: is missing; add it",
    "tasks:\n  - a\n  - {task: b, shre: 0.1}": ':3: tasks.1.shre: unknown key "shre"; did you mean "share"? '
    "(cap, few_shot, floor, inverted, loss_weight, max_epochs, options, share, task, templates, train_rows, weight)",
    "tasks: [{task: a, share: 1}]": ":1: tasks.0.share: must be less than 1, not 1",
    "tasks: [{task: a, weight: 0}]": ":1: tasks.0.weight: must be greater than 0, not 0",
    "seed: 1\ntasks: [{task: a, share: 0.5}]": ":2: tasks: each has a fixed share and they sum to 0.5, not 1; "
    "leave out one of them",
    "tasks: [{task: a, share: 0.5}, {task: b, share: 0.6}]": ":1: tasks: each has a fixed share and they sum to 1.1, "
    "not 1; leave out one of them",
    "tasks: [{task: a, share: 0.5}, {task: b, share: 0.5}, c]": ":1: tasks: the fixed shares sum to 1 and leave "
    "nothing for c; make them smaller",
}


@pytest.mark.parametrize("text", TASKS_MISTAKES)
def test_a_mistake_in_the_list_of_tasks_is_told(tmp_path, text):
    path = written(tmp_path, f"{text}\n")
    assert told(load_recipe, path) == f"{path}{TASKS_MISTAKES[text]}"


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.1] * 10, [1 / 3] * 3, [0.2, None], [None], [0.7, 0.2, None, None]])
def test_shares_that_leave_room_for_the_others_or_fill_all_are_taken(shares):
    tasks = [{"task": f"t{i}", **({"share": share} if share else {})} for i, share in enumerate(shares)]
    assert [choice.share for choice in recipe_from({"tasks": tasks}).tasks] == shares


@pytest.mark.parametrize("theirs", PEER_NAMES)
def test_a_name_that_other_trainers_use_is_pointed_to_ours(tmp_path, theirs):
    path = written(tmp_path, f"tasks: [a]\n\n{theirs}: 1\n")
    ours = PEER_NAMES[theirs]
    assert told(load_recipe, path) == f'{path}:3: {theirs}: unknown key "{theirs}"; it is called {ours} here'


def test_a_name_that_other_trainers_use_is_pointed_to_ours_in_a_section_and_in_an_argument(tmp_path):
    path = written(tmp_path, "tasks: [a]\nadapter:\n  lora_r: 8\n")
    message = 'unknown key "lora_r"; it is called adapter.rank here'
    assert told(load_recipe, path) == f"{path}:3: adapter.lora_r: {message}"
    assert told(load_recipe, written(tmp_path, "tasks: [a]"), ["lora_r=8"]) == f"lora_r=8: {message}"


def test_every_name_of_ours_that_others_are_pointed_to_is_a_key():
    keys = set(Recipe.model_fields)
    for key, field in Recipe.model_fields.items():
        keys |= {f"{key}.{below}" for below in getattr(field.annotation, "model_fields", {})}
    assert set(PEER_NAMES.values()) <= keys


def test_values_from_python_have_no_file_to_name():
    assert told(recipe_from, {"tasks": ["a"], "seed": -1}) == "seed: must be at least 0, not -1"


# --- arguments ----------------------------------------------------------------------------------------------


def overridden(folder, *arguments, text="tasks: [a, {task: b}]\n"):
    return load_recipe(written(folder, text), arguments)


def test_arguments_set_values_in_sections_in_list_items_and_below_short_forms(tmp_path):
    recipe = overridden(
        tmp_path,
        "training.epochs=1e1",
        "training.loss.per=example",
        "model.revision=main",
        "tasks.0.share=0.2",
        "tasks.1=c",
        "unseen=[starter/intent, {task: d}]",
        "adapter={method: lora, rank: 8}",
        "output=runs/a b",
    )
    assert recipe.training.epochs == 10
    assert recipe.training.loss.per == "example"
    assert (recipe.model.name, recipe.model.revision) == ("smollm2-135m-instruct", "main")
    assert [(one.choice.task, one.choice.share) for one in recipe.trained()] == [("a", 0.2), ("c", None)]
    assert [choice.task for choice in recipe.unseen] == ["starter/intent", "d"]
    assert (recipe.adapter.method, recipe.adapter.rank) == ("lora", 8)
    assert recipe.output == "runs/a b"


def test_a_later_argument_wins_and_an_empty_value_takes_a_value_away(tmp_path):
    recipe = overridden(tmp_path, "seed=1", "seed=2", "output=", text="tasks: [a]\noutput: runs/x\n")
    assert (recipe.seed, recipe.output) == (2, None)


def test_arguments_are_put_below_a_section_that_the_file_left_empty(tmp_path):
    assert overridden(tmp_path, "training.epochs=2", text="tasks: [a]\ntraining:\n").training.epochs == 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("null", None),
        ("1e-4", 1e-4),
        ("true", True),
        ("[a, 1]", ["a", 1]),
        ("{a: [1]}", {"a": [1]}),
        ('"5"', "5"),
        ("'it''s'", "it's"),
        ("You are: kind", "You are: kind"),
        ("- a", "- a"),
        ("C# is fine # really", "C# is fine # really"),
        ("#1", "#1"),
        ("two  words ", "two  words "),
        ("[a", "[a"),
        ("*x", "*x"),
        ("a\n---\nb", "a\n---\nb"),
    ],
)
def test_an_argument_is_one_yaml_value_or_the_words_as_they_are(text, value):
    assert parse_value(text) == value


@given(words=st.text(st.characters(exclude_categories=["Cs"])))
@settings(deadline=None)
def test_an_argument_in_json_quotes_is_any_text(words):
    recipe = recipe_from({"tasks": ["a"]}, [f"model.system={json.dumps(words)}"])
    assert recipe.model.system == words


def test_arguments_leave_the_given_values_as_they_were():
    given_data = {"tasks": ["a", {"task": "b"}], "training": {"epochs": 1}}
    before = json.dumps(given_data)
    apply_overrides(given_data, ["tasks.0.share=0.1", "tasks.1.share=0.1", "training.epochs=2", "model.name=x"])
    assert json.dumps(given_data) == before


ARGUMENT_MISTAKES = {
    "training.epochs": "not of the form key=value; write for example training.epochs=2",
    "=2": "not of the form key=value; write for example training.epochs=2",
    "training..epochs=2": "not of the form key=value; write for example training.epochs=2",
    "training.epochs=two": 'a number is wanted, not "two"',
    "training.epochs=": "a number is wanted, not nothing",
    "training.epoch=2": 'unknown key "epoch"; did you mean "epochs"? (activation_checkpointing, average, '
    "betas, checkpoint_every, compile, cooldown, draws, epochs, keep_checkpoints, learning_rate, loss, "
    "master_weights, ...)",
    "trainig.epochs=2": f'trainig: unknown key "trainig"; did you mean "training"? ({SECTIONS["top"]})',
    "mixture={rates: even}": 'mixture.rates: unknown value "even"; known: equal, explicit, proportional, temperature',
    "tasks=a": "a list is wanted, such as [a]",
    "tasks.2.share=0.5": 'no item "2"; its items are numbered 0 to 1',
    "tasks.-1=c": 'no item "-1"; its items are numbered 0 to 1',
    "tasks.²=c": 'no item "²"; its items are numbered 0 to 1',
    "tasks.first.share=0.5": 'no item "first"; its items are numbered 0 to 1',
    "unseen.0=c": 'no item "0"; the list is empty',
    "seed.x=1": '"x" is below a value that has no keys; write seed=...',
    "seed.x.y=1": '"x" is below a value that has no keys; write seed=...',
    "name.x=1": '"x" is below a value that has no keys; write name=...',
    "tasks.1.shre=0.5": 'unknown key "shre"; did you mean "share"? (cap, few_shot, floor, '
    "inverted, loss_weight, max_epochs, options, share, task, templates, train_rows, weight)",
}


@pytest.mark.parametrize("argument", ARGUMENT_MISTAKES)
def test_a_mistake_in_an_argument_is_told_with_the_argument(tmp_path, argument):
    path = written(tmp_path, "name: mine\nseed: 1\ntasks: [a, b]\nunseen: []\n")
    assert told(load_recipe, path, [argument]) == f"{argument}: {ARGUMENT_MISTAKES[argument]}"


def test_a_sum_that_an_argument_made_wrong_is_told_with_the_argument(tmp_path):
    path = written(tmp_path, "tasks: [{task: a, share: 0.5}, {task: b, share: 0.5}]\n")
    assert told(load_recipe, path, ["seed=1", "tasks.1.share=0.6"]) == (
        "tasks.1.share=0.6: tasks: each has a fixed share and they sum to 1.1, not 1; leave out one of them"
    )


def test_a_mistake_of_the_file_is_told_with_the_file_though_there_are_arguments(tmp_path):
    path = written(tmp_path, "tasks: [a]\ntraining: {epochs: 0}\n")
    assert told(load_recipe, path, ["training.draws=5", "seed=1"]) == (
        f"{path}:2: training.epochs: must be greater than 0, not 0"
    )


# --- written and read again ---------------------------------------------------------------------------------

positive = st.floats(1e-12, 1e12)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
names = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,20}", fullmatch=True)


def sometimes(**fields):
    """A mapping with some of the keys."""
    return st.fixed_dictionaries({}, optional=fields)


task_names = words.filter(lambda text: text and not text.endswith((".yaml", ".yml")))
tasks = st.fixed_dictionaries(
    {"task": task_names}, optional={"weight": positive, "loss_weight": positive, "train_rows": st.integers(1)}
)
recipes = st.fixed_dictionaries(
    {"tasks": st.lists(task_names | tasks, min_size=1, max_size=3), "name": names},
    optional={
        "seed": st.integers(0),
        "model": sometimes(name=st.text("abc/-5", min_size=1, max_size=5), revision=st.none() | words, system=words),
        "unseen": st.lists(task_names, max_size=2),
        "variables": st.dictionaries(words, st.text("xyz0123", max_size=5), max_size=2),
        "mixture": sometimes(
            rates=st.sampled_from(["equal", "temperature"]), cap=st.none() | st.integers(1), temperature=st.floats(1, 9)
        ),
        "adapter": sometimes(
            method=st.sampled_from(["none", "lora"]),
            dropout=st.floats(0, 0.9),
            target_modules=st.just("all-linear") | st.lists(words, max_size=2),
        ),
        "training": sometimes(
            epochs=positive,
            learning_rate=positive,
            betas=st.tuples(st.floats(0, 1), st.floats(0, 1)),
            compile=st.booleans(),
            loss=sometimes(per=st.sampled_from(["token", "example"])),
        ),
        "evaluation": sometimes(split=words, margin=st.none() | positive),
        "output": st.none() | words,
    },
)


@settings(deadline=None)
@given(data=recipes)
def test_a_resolved_recipe_is_the_same_when_it_is_written_and_read_again(tmp_path_factory, data):
    run = tmp_path_factory.mktemp("run")
    recipe = recipe_from(data)
    write_recipe(run, recipe)
    assert read_recipe(run) == recipe
    assert load_recipe(run / "recipe.yaml") == recipe


# --- JSON Schema --------------------------------------------------------------------------------------------

SCHEMA = Recipe.model_json_schema()


def fits(value, schema):
    """Whether a value fits a JSON Schema, by the keywords that ours uses; another keyword is an error."""
    checks = {
        "$ref": lambda at: fits(value, SCHEMA["$defs"][at.removeprefix("#/$defs/")]),
        "anyOf": lambda options: any(fits(value, option) for option in options),
        "oneOf": lambda options: sum(fits(value, option) for option in options) == 1,
        "const": lambda only: value == only,
        "enum": lambda choices: value in choices,
        "type": lambda kind: type(value) in JSON_TYPES[kind],
        "minimum": lambda bound: value >= bound,
        "maximum": lambda bound: value <= bound,
        "exclusiveMinimum": lambda bound: value > bound,
        "exclusiveMaximum": lambda bound: value < bound,
        "minLength": lambda length: len(value) >= length,
        "minItems": lambda length: len(value) >= length,
        "maxItems": lambda length: len(value) <= length,
        "minProperties": lambda count: len(value) >= count,
        "items": lambda item: all(fits(each, item) for each in value),
        "prefixItems": lambda items: all(map(fits, value, items)),
        "required": lambda keys: all(key in value for key in keys),
        "properties": lambda keys: all(fits(value[key], keys[key]) for key in value.keys() & keys.keys()),
        "additionalProperties": lambda rest: all(
            fits(value[key], rest) if rest else False for key in value.keys() - schema.get("properties", {}).keys()
        ),
    }
    first = ("$ref", "anyOf", "oneOf", "const", "enum", "type")  # the others need a value of the right type
    told_only = {"title", "description", "default", "$defs"}
    return all(checks[key](schema[key]) for key in sorted(schema.keys() - told_only, key=lambda key: key not in first))


JSON_TYPES = {
    "string": {str},
    "integer": {int},
    "number": {int, float},
    "boolean": {bool},
    "null": {type(None)},
    "array": {list},
    "object": {dict},
}


def test_the_exported_schema_takes_the_packaged_recipe_and_the_resolved_one():
    assert fits(read_yaml(RECIPE).data, SCHEMA)
    assert fits(load_recipe(RECIPE).model_dump(mode="json"), SCHEMA)


@settings(deadline=None)
@given(data=recipes)
def test_the_exported_schema_takes_what_the_loader_takes(data):
    assert fits(json.loads(json.dumps(data)), SCHEMA)


@pytest.mark.parametrize(
    "mistake",
    [
        mistake
        for mistake, message in MISTAKES.items()
        # A schema has no words for a pattern made in code, for a sum over keys, and for what is finite.
        if not re.search("a name is|rows_per_step, which|not trained on|finite|no learned prefix|in 4 bits", message)
    ],
)
def test_the_exported_schema_refuses_what_the_loader_refuses(tmp_path, mistake):
    assert not fits(read_yaml(written(tmp_path, f"tasks: [a]\n{mistake}\n")).data, SCHEMA)


def test_every_key_is_described_or_says_all_in_its_name_and_type():
    plain = {"name", "seed", "split", "learning_rate", "schedule", "weight_decay", "betas", "max_gradient_norm"}
    for kind in (SCHEMA, *SCHEMA["$defs"].values()):
        for key, value in kind["properties"].items():
            assert "description" in value or "$ref" in json.dumps(value) or key in plain, key


def test_the_packaged_recipe_explains_itself_in_its_first_line():
    assert Path(RECIPE).read_text(encoding="utf-8").startswith("# What `flantune quickstart` does.")
