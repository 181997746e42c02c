"""What a recipe says about mixing: mixtures inside, replay, phases, and how mistakes in them are told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.recipe import load_recipe, recipe_from
from flantune.recipe.mixing import MixtureChoice, TaskChoice, inner_mixtures
from flantune.run_folder import read_recipe, write_recipe

NESTED = """\
tasks:
  - tasks/mails.yaml
  - mixture: talk
    share: 0.4
    few_shot: {share: 0.5}
    inverted: 0.2
    tasks:
      - starter/intent
      - mixture: long
        options: 0.25
        tasks: [{task: sums.yaml, options: 0.75, max_epochs: 2}, {task: chats.yaml, inverted: 0}]
mixture:
  inverted: 0.3:1
  options: 0.5
  max_epochs: 4
  replay: 0.05
"""


def written(folder, text):
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def told(folder, text, *overrides):
    """The whole text of a user's mistake, after the path."""
    path = written(folder, text)
    with pytest.raises(FlantuneError) as caught:
        load_recipe(path, overrides)
    return str(caught.value).removeprefix(str(path))


def test_tasks_are_listed_with_the_mixture_around_them_and_what_it_says_of_them(tmp_path):
    placed = load_recipe(written(tmp_path, NESTED)).trained()
    assert [(it.choice.task.removeprefix(f"{tmp_path}/"), it.inside) for it in placed] == [
        ("tasks/mails.yaml", ""),
        ("starter/intent", "talk"),
        ("sums.yaml", "long"),
        ("chats.yaml", "long"),
        ("starter/instructions", "replay"),
    ]
    assert [it.inverted for it in placed] == ["0.3:1", 0.2, 0.2, 0.0, "0.3:1"]
    assert [it.options for it in placed] == [0.5, 0.5, 0.75, 0.25, 0.5]
    assert [it.few_shot.share for it in placed] == [0, 0.5, 0.5, 0.5, 0]
    assert [it.max_epochs for it in placed] == [4, 4, 2, 4, 4]


def test_mixtures_inside_are_listed_with_the_mixture_around_them(tmp_path):
    found = inner_mixtures(load_recipe(written(tmp_path, NESTED)).tasks)
    assert [(around, inner.mixture, inner.share) for around, inner in found] == [
        ("", "talk", 0.4),
        ("talk", "long", None),
    ]


def test_a_phase_changes_how_what_it_names_is_asked_and_nothing_else(tmp_path):
    phases = """\
  phases:
    - {from_share: 0.5, few_shot: {share: 0.9}, options: 0.1}
    - {from_share: 0.7, tasks: {talk: {inverted: 0.6, options: 0.2}, sums: {options: 0.3}, replay: {inverted: 0}}}
"""
    recipe = load_recipe(written(tmp_path, NESTED + phases))
    names = ["mails", "intent", "sums", "chats", "instructions"]
    first, second = (recipe.trained_in(phase, names) for phase in (0, 1))
    assert [it.options for it in first] == [0.1, 0.1, 0.75, 0.25, 0.1]
    assert [it.few_shot.share for it in first] == [0.9, 0.5, 0.5, 0.5, 0.9]
    assert [it.inverted for it in first] == [it.inverted for it in recipe.trained()]
    assert [it.options for it in second] == [0.5, 0.2, 0.3, 0.25, 0.5]
    assert [it.inverted for it in second] == ["0.3:1", 0.6, 0.6, 0.0, 0.0]
    assert [it.few_shot for it in second] == [it.few_shot for it in recipe.trained()]


def test_a_bare_share_of_replay_stands_for_the_general_instructions():
    short, long = (
        recipe_from({"tasks": ["a"], "mixture": {"replay": replay}})
        for replay in (0.05, {"share": 0.05, "tasks": ["starter/instructions"]})
    )
    assert short == long
    mixed = recipe_from({"tasks": ["a"], "mixture": {"replay": {"share": 0.1, "tasks": ["b", "c"]}}})
    assert [(it.choice.task, it.inside) for it in mixed.trained()] == [("a", ""), ("b", "replay"), ("c", "replay")]


def test_an_argument_reaches_into_a_mixture_inside(tmp_path):
    recipe = load_recipe(
        written(tmp_path, NESTED), ["tasks.1.tasks.0.share=0.3", "tasks.1.tasks.1.tasks.1.cap=9", "tasks.1.cap=5"]
    )
    talk = recipe.tasks[1]
    assert isinstance(talk, MixtureChoice)
    assert (talk.cap, talk.tasks[0].share) == (5, 0.3)
    assert recipe.trained()[3].choice.cap == 9


names = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
entries = st.recursive(
    st.builds(lambda task, cap: {"task": task, "cap": cap}, names, st.none() | st.integers(1, 9)),
    lambda inner: st.builds(
        lambda tasks, rates, weight: {"tasks": tasks, "rates": rates, "weight": weight},
        st.lists(inner, min_size=1, max_size=3),
        st.sampled_from(["proportional", "equal", "explicit"]),
        st.floats(0.1, 9),
    ),
    max_leaves=6,
)


def christened(entry, path="m"):
    """An entry whose mixtures have names of their own."""
    if "tasks" not in entry:
        return entry
    tasks = [christened(inner, f"{path}.{number}") for number, inner in enumerate(entry["tasks"])]
    return {**entry, "mixture": path, "tasks": tasks}


@settings(deadline=None)
@given(st.lists(entries, min_size=1, max_size=4))
def test_a_recipe_of_nested_mixtures_is_the_same_when_it_is_written_and_read_again(tmp_path_factory, given_entries):
    run = tmp_path_factory.mktemp("run")
    tasks = [christened(entry, f"m{number}") for number, entry in enumerate(given_entries)]
    phases = [{"from_share": 0.5, "tasks": {"a": {"share": 0}}, "rates": "equal"}, {"from_draw": 7}]
    recipe = recipe_from({"name": "r", "tasks": tasks, "mixture": {"replay": 0.1, "phases": phases}})
    write_recipe(run, recipe)
    assert read_recipe(run) == recipe
    assert load_recipe(run / "recipe.yaml") == recipe


def test_a_mixture_inside_has_the_defaults_of_the_whole():
    whole = recipe_from({"tasks": ["a"]}).mixture
    inner = recipe_from({"tasks": ["a", {"mixture": "m", "tasks": ["b"]}]}).tasks[1]
    assert isinstance(inner, MixtureChoice)
    for key in ("rates", "cap", "floor", "temperature"):
        assert getattr(inner, key) == getattr(whole, key)


def test_an_entry_that_names_a_mixture_is_one():
    recipe = recipe_from({"tasks": ["a", {"task": "b"}, {"mixture": "c", "tasks": ["d"]}]})
    assert [type(entry) for entry in recipe.tasks] == [TaskChoice, TaskChoice, MixtureChoice]


IN_MIXTURE = "cap, few_shot, floor, inverted, mixture, options, rates, share, share_of, tasks, temperature, weight"
MISTAKES = {
    "tasks:\n  - {mixture: m, tasks: []}": ":2: tasks.0.tasks: is empty; give at least one",
    "tasks:\n  - {mixture: m}": ":2: tasks.0.tasks: is missing; add it",
    "tasks:\n  - {mixture: '', tasks: [a]}": ":2: tasks.0.mixture: is empty; give a value, or leave the key out",
    "tasks:\n  - mixture: m\n    tasks: [a]\n    sharre: 0.1": ':4: tasks.0.sharre: unknown key "sharre"; did you mean '
    f'"share"? ({IN_MIXTURE})',
    "tasks:\n  - mixture: m\n    tasks:\n      - {task: a, weigt: 1}": ":4: tasks.0.tasks.0.weigt: unknown key "
    '"weigt"; did you mean "weight"? (cap, few_shot, floor, inverted, loss_weight, max_epochs, options, share, task, '
    "templates, train_rows, weight)",
    "tasks:\n  - {task: a, share: 0.5, weight: 2}\n  - b": ":2: tasks.0.weight: does nothing beside the fixed share of "
    "0.5; leave out one of them",
    "tasks:\n  - a\n  - mixture: m\n    share: 0.5\n    weight: 2\n    tasks: [b]": ":5: tasks.1.weight: does nothing "
    "beside the fixed share of 0.5; leave out one of them",
    "tasks:\n  - {task: a, templates: []}": ":2: tasks.0.templates: is empty; give at least one",
    "tasks:\n  - {task: a, templates: short}": ":2: tasks.0.templates: a list is wanted, such as [short]",
    "tasks:\n  - {task: a, inverted: 1.5}": ":2: tasks.0.inverted: a share from 0 to 1 is wanted, or a ratio such as "
    "0.3:1, not 1.5",
    "tasks:\n  - {task: a, inverted: 0:0}": ":2: tasks.0.inverted: a share from 0 to 1 is wanted, or a ratio such as "
    '0.3:1, not "0:0"',
    "tasks: [a]\nmixture: {inverted: 3 to 1}": ":2: mixture.inverted: a share from 0 to 1 is wanted, or a ratio such "
    'as 0.3:1, not "3 to 1"',
    "tasks:\n  - {mixture: m, inverted: true, tasks: [a]}": ":2: tasks.0.inverted: a share from 0 to 1 is wanted, or "
    "a ratio such as 0.3:1, not true",
    "tasks: [a]\nmixture: {inverted: [1]}": ":2: mixture.inverted: a share from 0 to 1 is wanted, or a ratio such as "
    "0.3:1",
    "tasks:\n  - mixture: m\n    tasks: [{task: a, share: 0.5}, {task: b, share: 0.7}]": ":3: tasks.0.tasks: each has "
    "a fixed share and they sum to 1.2, not 1; leave out one of them",
    "tasks:\n  - mixture: m\n    tasks: [{task: a, share: 0.5}, {mixture: b, share: 0.5, tasks: [c]}, d]": ":3: "
    "tasks.0.tasks: the fixed shares sum to 1 and leave nothing for d; make them smaller",
    "tasks:\n  - {mixture: m, tasks: [a]}\n  - {mixture: m, tasks: [b]}": ':1: tasks: two mixtures are called "m"; '
    "rename one",
    "tasks:\n  - {mixture: replay, tasks: [a]}\nmixture: {replay: 0.1}": ":1: tasks: two mixtures are called "
    '"replay"; rename one',
    "tasks:\n  - {task: a, share: 0.5}\n  - {task: b, share: 0.5}\nmixture: {replay: 0.1}": ":1: tasks: each has a "
    "fixed share and they sum to 1.1, not 1; leave out one of them",
    "tasks: [a]\nmixture: {replay: 1}": ":2: mixture.replay: must be less than 1, not 1",
    "tasks: [a]\nmixture: {replay: yes}": ':2: mixture.replay: "yes" where keys and values are wanted (share, tasks)',
    "tasks: [a]\nmixture:\n  cap: 5\n  floor: 6": ":4: mixture.floor: must be at most `cap`, which is 5, not 6",
    "tasks:\n  - {task: a, cap: 5, floor: 6}": ":2: tasks.0.floor: must be at most `cap`, which is 5, not 6",
    "tasks: [a]\nmixture: {share_of: words}": ':2: mixture.share_of: unknown value "words"; known: examples, '
    "target_tokens, tokens",
    "tasks: [a]\nmixture:\n  phases:\n    - {rates: equal}": ":4: mixture.phases.0: a phase begins at `from_draw` or "
    "at `from_share`; give one of them",
    "tasks: [a]\nmixture:\n  phases:\n    - {from_draw: 5, from_share: 0.5}": ":4: mixture.phases.0: a phase begins at "
    "`from_draw` or at `from_share`; give one of them",
    "tasks: [a]\nmixture:\n  phases:\n    - {from_share: 0.5, tasks: {a: {loss_weight: 2}}}": ":4: "
    'mixture.phases.0.tasks.a.loss_weight: unknown key "loss_weight"; did you mean "weight"? '
    "(cap, few_shot, floor, inverted, options, rates, share, temperature, weight)",
    "tasks: [a]\nunseen:\n  - {task: b, cap: 5}": ":3: unseen.0.cap: b is not trained on; remove `cap`",
    "tasks: [a]\nunseen:\n  - {task: b, templates: [short]}": ":3: unseen.0.templates: b is not trained on; remove "
    "`templates`",
    "tasks: [a]\nunseen:\n  - {task: b, options: 0.5}": ":3: unseen.0.options: b is not trained on; remove `options`",
    "tasks: [a]\nunseen:\n  - {mixture: b, tasks: [c]}": ':3: unseen.0.mixture: unknown key "mixture"; known: cap, '
    "few_shot, floor, inverted, loss_weight, max_epochs, options, share, task, templates, train_rows, weight",
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_told_with_line_field_value_and_remedy(tmp_path, text, message):
    assert told(tmp_path, text) == message
