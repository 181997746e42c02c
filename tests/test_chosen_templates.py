"""Which of a task's templates a recipe trains with, and how many draws ask in inverted ones."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.mixture.draw import DrawFunction, MixedTask
from flantune.mixture.tree import Rated
from flantune.mixture.window import Member, template_shares
from flantune.preparation import members_of, trained_tasks
from flantune.recipe import load_recipe
from flantune.tasks import Task, Template
from small_mixture import LETTER_TEMPLATES, LETTERS, made_task
from strategies import seeds

NAMES = {"train": ["short", "short_2", "long", "back"], "held_out": ["spare"]}


def letters(folder):
    """A task of three straight templates and an inverted one, and one that is held out."""
    straight, other, inverted = LETTER_TEMPLATES
    templates = [
        {"name": "short", "text": straight},
        {"name": "short_2", "text": f"Please: {straight}"},
        {"name": "long", "text": other},
        {"name": "back", "text": inverted, "inverted": True},
        {"name": "spare", "text": f"Now: {straight}", "held_out": True},
    ]
    return made_task(folder, "letters", LETTERS, templates)


def trained(folder, tasks, mixture="{}"):
    """The one task of a recipe as it is trained on."""
    letters(folder)
    path = folder / "recipe.yaml"
    path.write_text(f"tasks:\n{tasks}\nmixture: {mixture}\n", encoding="utf-8")
    recipe = load_recipe(path)
    (member,) = members_of(recipe, trained_tasks(recipe))
    return member


def named(templates):
    return [template.name for template in templates]


@pytest.mark.parametrize(
    ("chosen", "used"),
    [
        ("[long]", ["long"]),
        ("['short*']", ["short", "short_2"]),
        ("[short, b*, back]", ["short", "back"]),
        ("['*']", NAMES["train"]),
        ("[back]", ["back"]),
    ],
)
def test_the_templates_that_are_not_chosen_count_as_held_out(tmp_path, chosen, used):
    task = trained(tmp_path, f"  - {{task: letters.yaml, templates: {chosen}}}").task
    assert named(task.training_templates) == used
    straight = ["short", "short_2", "long", "spare"]
    assert named(task.evaluation_templates("seen")) == [name for name in straight if name in used]
    assert named(task.evaluation_templates("held_out")) == [name for name in straight if name not in used]


def test_choosing_templates_leaves_the_task_itself_as_it_is(tmp_path):
    task = letters(tmp_path)
    assert named(task.training_templates) == NAMES["train"]
    other = task.trained_with({"long"})
    assert named(other.training_templates) == ["long"]
    assert named(task.training_templates) == NAMES["train"]
    assert list(other.split("train")) == list(task.split("train"))
    assert other.example(3, template="back") == task.example(3, template="back")


@pytest.mark.parametrize(
    ("wrong", "near"), [("shrt", 'did you mean "short"? ({})'), ("spare", "known: {}"), ("l?g", "known: {}")]
)
def test_a_template_that_is_not_trained_with_is_told_with_its_line_and_the_nearest(tmp_path, wrong, near):
    with pytest.raises(FlantuneError) as told:
        trained(tmp_path, f"  - task: letters.yaml\n    templates:\n      - long\n      - '{wrong}'")
    assert str(told.value) == (
        f'{tmp_path / "recipe.yaml"}:5: task letters has no training template "{wrong}"; '
        + near.format("back, long, short, short_2")
    )


@pytest.mark.parametrize(
    ("own", "around", "share"),
    [
        ("", "{}", Fraction(1, 4)),  # by the weights of the templates
        ("", "{inverted: 0.4}", Fraction(2, 5)),
        ("inverted: 0.3:1", "{inverted: 0.4}", Fraction(3, 13)),
        ("inverted: '3 : 10'", "{}", Fraction(3, 13)),
        ("inverted: 0", "{inverted: 0.4}", Fraction(0)),
        ("inverted: 1", "{}", Fraction(1)),
        ("templates: [short, back], inverted: 0.1", "{}", Fraction(1, 10)),
        ("templates: [short, long], inverted: 0.1", "{}", Fraction(0)),  # none left that is inverted
        ("templates: [back], inverted: 0.1", "{}", Fraction(1)),  # nor one that is straight
    ],
)
def test_a_task_asks_in_inverted_templates_as_often_as_it_or_what_is_around_it_says(tmp_path, own, around, share):
    member = trained(tmp_path, f"  - {{task: letters.yaml, {own}}}", around)
    shares = template_shares(member)
    inverted = [template.inverted for template in member.task.training_templates]
    assert sum(part for part, it in zip(shares, inverted, strict=True) if it) == share
    assert sum(shares) == 1


weighed = st.lists(st.tuples(st.sampled_from([0.5, 1, 2, 3.25]), st.booleans()), min_size=1, max_size=8)


def asked_in(templates, inverted):
    """A member of made-up templates: their weights, and whether they are inverted."""
    made = [
        Template(f"t{i}", "{{ x }} ||| {{ x }}", inverted=turned, weight=weight)
        for i, (weight, turned) in enumerate(templates)
    ]
    task = Task("t", {"train": [{"x": "y"}]}, made)
    return Member(task, task.split("train"), inverted=inverted)


@settings(deadline=None, max_examples=50)
@given(weighed, st.none() | st.integers(0, 100))
def test_templates_of_one_kind_divide_its_share_by_their_weights(templates, percent):
    shares = template_shares(asked_in(templates, None if percent is None else percent / 100))
    kinds = {turned for _, turned in templates}
    assert sum(shares) == 1
    for kind in kinds:
        here = [(share, weight) for share, (weight, turned) in zip(shares, templates, strict=True) if turned is kind]
        part = sum(share for share, _ in here)
        if len(kinds) == 2 and percent is not None:
            assert part == Fraction(percent if kind else 100 - percent, 100)
        assert all(share == part * Fraction(weight) / Fraction(sum(w for _, w in here)) for share, weight in here)


@settings(deadline=None, max_examples=50)
@given(weighed, st.integers(0, 100), st.integers(1, 300), seeds)
def test_over_an_epoch_each_template_is_within_3_draws_of_its_share_also_where_that_is_none(
    templates, percent, rows, seed
):
    shares = template_shares(asked_in(templates, percent / 100))
    task = MixedTask("t", rows, tuple(shares))
    chosen = DrawFunction([task], Rated.of_tasks({"t": Fraction(1)}), seed).draws(range(4 * rows)).templates
    for template, share in enumerate(shares):
        counts = (chosen.reshape(4, rows) == template).sum(axis=1)
        assert abs(counts - float(rows * share)).max() < 3
        assert share or not counts.any()
