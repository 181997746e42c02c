"""Real data sets that hold each other's rows under other names and prompts are found; others raise no alarm."""

from __future__ import annotations

import pytest

from flantune.errors import FlantuneError
from flantune.mixture.audit import Evaluated, audit
from flantune.mixture.ledger import Listed, check_origins
from flantune.mixture.window import Member
from flantune.tasks import find_task
from flantune.tasks.task import Task
from small_mixture import made_task
from test_real_data import DATA

pytestmark = pytest.mark.skipif(
    not (DATA / "README.md").exists(), reason=f"no data sets in {DATA}; FLANTUNE_TEST_DATA names another folder"
)
SUMMARY = "{{ dialogue }} ||| {{ summary }}"
PROMPTED = "{{ input }} ||| {{ outputs[0] }}"


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> dict[str, Task]:
    """Tasks over the files of several sources, each with splits named as its source names them."""
    folder = tmp_path_factory.mktemp("tasks")
    prompted = {"kind": "json", "header": ["input", "outputs", "id"]}
    stated = [
        ("samsum", {"validation": "samsum_validation", "test": "samsum_test"}, {"kind": "jsonl"}, SUMMARY),
        (
            "dialogsum",
            {"dev": "dialogsum.dev", "test": "dialogsum.test"},
            {"kind": "jsonl"},
            "{{ dialogue }} ||| {{ fname }}",
        ),
        ("dialogsum_train", {"train": "dialogsum.train"}, {"kind": "jsonl"}, SUMMARY),
        (
            "dialogsum_messages",
            {"train": "training.small", "validation": "validation", "test": "testing"},
            {"kind": "jsonl"},
            "{{ messages[0].content }} ||| {{ messages[1].content }}",
        ),
        ("samsum_prompted", {"train": "upstream-5000", "validation": "test-1000"}, prompted, PROMPTED),
        ("recross_p3/gigaword", {"train": "upstream-5000", "test": "test-1000"}, prompted, PROMPTED),
        ("gsm8k", {"train": "train", "test": "test"}, {"kind": "jsonl"}, "{{ question }} ||| {{ answer }}"),
    ]
    made = {}
    for path, files, source, template in stated:
        suffix = "jsonl.gz" if source["kind"] == "jsonl" else "json.gz"
        splits = {split: str(DATA / path / f"{file}.{suffix}") for split, file in files.items()}
        name, source = path.rpartition("/")[2], {**source, "splits": splits}
        made[path] = made_task(folder, name, [], [template], source=source)
    code = DATA / "codexglue_code_trans"
    splits = {
        split: {side: str(code / f"{split}.java-cs.txt.{side}.gz") for side in ("java", "cs")}
        for split in ("train", "test")
    }
    source = {"kind": "parallel", "splits": splits}
    made["codexglue"] = made_task(folder, "codexglue", [], ["{{ java }} ||| {{ cs }}"], source=source)
    made["task1572"] = find_task(f"super_ni:{DATA}/super_ni/tasks/task1572_samsum_summary.json.gz")
    return made


def trained(task: Task, split: str = "train") -> Member:
    return Member(task, task.split(split))


def evaluated(task: Task, split: str = "test") -> Evaluated:
    rows = task.split(split)
    return Evaluated(task, [str(i) for i in range(len(rows))], list(rows), [rows.place(i) for i in range(len(rows))])


@pytest.fixture
def look(tmp_path, monkeypatch):
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path))
    return lambda members, asked, **rule: audit(members, asked, tmp_path / "ledgers", **rule)


def plainly_in(task: Task, split: str, field: str, texts: list[str]) -> set[str]:
    """Numbers of the rows of which a whole field stands in one of the texts, but for white space and case."""

    def normal(text: str) -> str:
        return " ".join(text.split()).casefold()

    known = "\n".join(map(normal, texts))
    return {str(i) for i, row in enumerate(task.split(split)) if normal(row[field]) in known}


def test_a_super_natural_instructions_task_of_samsum_may_not_stand_beside_samsum_as_unseen(tasks):
    samsum = Task("samsum", {"test": [{"dialogue": "a", "summary": "b"}]}, [SUMMARY], origins=["SAMSum"])
    with pytest.raises(
        FlantuneError, match="unseen task samsum shares its origin SAMSum with the trained task super_ni"
    ):
        check_origins([Listed(tasks["task1572"])], [Listed(samsum)])


def test_rows_of_samsum_are_found_in_its_super_natural_instructions_task(tasks, look):
    name = "super_ni/task1572_samsum_summary"
    asked = evaluated(tasks["task1572"])
    found = look([trained(tasks["samsum_prompted"])], [asked], duplicates="skip").told
    assert len(found["flagged"][name]) >= 20
    shown = found["contamination"][0]["shown"][0]
    assert shown["words"] > 100
    assert "task1572" in shown["place"]
    assert "upstream-5000.json.gz" in shown["training_place"]
    flagged = [
        row
        for split in ("train", "test")
        for row in look(
            [trained(tasks["task1572"], split)], [evaluated(tasks["samsum"], "validation")], duplicates="skip"
        )
        .told["flagged"]
        .get("samsum", [])
    ]
    assert flagged == ["623"]
    assert tasks["samsum"].split("validation")[623]["dialogue"].startswith("Ingmar: hi guys I'll be visiting London")


def test_every_dialogue_of_samsum_that_stands_under_a_prompt_is_found(tasks, look):
    prompted = tasks["samsum_prompted"]
    for split, part in (("train", "test"), ("validation", "validation")):
        told = look([trained(prompted, split)], [evaluated(tasks["samsum"], part)], duplicates="skip").told
        true = plainly_in(tasks["samsum"], part, "dialogue", [row["input"] for row in prompted.split(split)])
        flagged = set(told["flagged"]["samsum"])
        assert len(true) > 10
        assert true <= flagged
        assert len(flagged) <= len(true) + 8  # nearly the same dialogues, which are there twice
    ids = {row["id"].rpartition("#")[2] for row in prompted.split("validation")}
    told = look([trained(prompted, "validation")], [evaluated(tasks["samsum"], "validation")], duplicates="skip").told
    assert set(told["flagged"]["samsum"]) == ids
    assert len(ids) == 200


def test_every_dialogue_of_dialogsum_that_stands_among_its_messages_is_found(tasks, look):
    messages = tasks["dialogsum_messages"]
    for split, count in (("validation", 258), ("test", 100)):
        told = look([trained(messages, split)], [evaluated(tasks["dialogsum"])], duplicates="skip").told
        true = plainly_in(
            tasks["dialogsum"], "test", "dialogue", [row["messages"][0]["content"] for row in messages.split(split)]
        )
        assert len(true) == count
        assert true <= set(told["flagged"]["dialogsum"])
        assert len(told["flagged"]["dialogsum"]) <= count + 5


def test_left_out_rows_leave_nothing_to_find_and_keep_the_rest(tasks, look):
    asked = [evaluated(tasks["samsum"]), evaluated(tasks["samsum"], "validation")]
    cleaned = look([trained(tasks["samsum_prompted"])], asked[:1], decontaminate="drop", duplicates="skip")
    assert 4950 < len(cleaned.members[0].rows) < 5000
    assert look(list(cleaned.members), asked[:1], duplicates="skip").told["contamination"] == []


def test_code_translation_and_the_rest_have_nothing_in_common(tasks, look):
    rest = ("samsum_prompted", "dialogsum_train", "dialogsum_messages", "recross_p3/gigaword", "gsm8k", "task1572")
    members = [trained(tasks["codexglue"]), *(trained(tasks[name]) for name in rest)]
    asked = [evaluated(tasks[name]) for name in ("codexglue", "samsum", "dialogsum", "gsm8k", "recross_p3/gigaword")]
    told = look(members, asked, duplicates="skip").told
    pairs = {(pair["trained"], pair["evaluated"]) for pair in told["contamination"]}
    assert {pair for pair in pairs if "codexglue" in pair} == {("codexglue", "codexglue")}
    assert {pair for pair in pairs if "gsm8k" in pair} <= {("gsm8k", "gsm8k")}
    assert {pair for pair in pairs if "gigaword" in pair} <= {("gigaword", "gigaword")}


def test_prompts_of_one_dialogue_are_duplicates_and_different_dialogues_are_none(tasks, look):
    told = look([trained(tasks["samsum_prompted"], "validation")], []).told["duplicates"]
    assert [(it["task"], it["of"], it["exact"]) for it in told] == [("samsum_prompted", "samsum_prompted", 0)]
    assert 500 < told[0]["near"] <= 1000 - 200  # 200 dialogues under five prompts; short ones differ by their prompt
    assert look([trained(tasks["samsum"], "test")], []).told["duplicates"] == []
