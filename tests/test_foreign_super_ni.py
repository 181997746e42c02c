"""Super-NaturalInstructions' task files: prompts as the collection's own code writes them, rows in place."""

from __future__ import annotations

import gzip
import json
import string
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.tasks import find_task
from flantune.tasks.foreign import foreign_task
from flantune.tasks.foreign.super_ni import super_ni_task
from flantune.tasks.sources import digests
from reading import texts, told

HOSTILE = [
    "{{ 7 * 7 }}",
    "{% raw %}{% endraw %}",
    "a ||| b",
    "\\n",
    '"}}',
    "{#",
    "{",
    "|",
    "\r\nx",
    "\x1b[31mred",
    "\u202e",
]


def content(instances=120, **changed):
    """A task file in the collection's present form."""
    return {
        "Contributors": ["A"],
        "Source": ["shops (https://example.org/shops)"],
        "Categories": ["Question Answering -> Closed"],
        "Definition": ["Say what the shop sells."],
        "Input_language": ["English"],
        "Output_language": ["English"],
        "Instruction_language": ["English"],
        "Domains": ["Commonsense -> Shops", "Food"],
        "Positive Examples": [
            {"input": " A bakery ", "output": "bread.", "explanation": "Bakers bake"},
            {"input": "A dairy", "output": "milk", "explanation": ""},
            {"input": "A third", "output": "unused", "explanation": ""},
        ],
        "Negative Examples": [{"input": "A bank", "output": "money", "explanation": "Banks sell nothing."}],
        "Instances": [{"id": f"t-{i}", "input": f" shop {i}", "output": [f" goods {i} "]} for i in range(instances)],
        "Instance License": ["CC BY-SA 4.0"],
        **changed,
    }


def written(folder, name="task7_shops_selling.json", **changed):
    """The path of a task file."""
    path = folder / name
    path.write_text(json.dumps(content(**changed)), encoding="utf-8")
    return path


def test_a_file_says_name_cluster_origin_licence_language_and_domains(tmp_path):
    data = super_ni_task(written(tmp_path)).data
    assert {key: data[key] for key in ("name", "cluster", "origins", "license", "language", "description")} == {
        "name": "super_ni/task7_shops_selling",
        "cluster": "question_answering",
        "origins": ["shops"],
        "license": "CC-BY-SA-4.0",
        "language": "en",
        "description": "Say what the shop sells. (Domains: Commonsense -> Shops; Food)",
    }


def test_the_first_hundred_instances_are_the_test_split_and_the_rest_is_for_training(tmp_path):
    task = find_task(f"super_ni:{written(tmp_path)}")
    assert [len(task.split(split)) for split in ("train", "test")] == [20, 100]
    assert task.split("test")[0]["id"] == "t-0"
    assert task.split("train")[0]["id"] == "t-100"
    assert task.split("train").place(0).endswith("task7_shops_selling.json: record 101")


@pytest.mark.parametrize(
    ("option", "splits"),
    [
        ("?test=5", {"train": 115, "test": 5}),
        ("?test=0", {"train": 120}),
        ("?test=120", {"test": 120}),
        ("?test=999", {"test": 120}),
    ],
)
def test_the_name_says_how_many_instances_are_for_testing(tmp_path, option, splits):
    task = find_task(f"super_ni:{written(tmp_path)}{option}")
    assert {split: len(task.split(split)) for split in task.split_names()} == splits


def test_a_file_is_read_compressed_from_an_archive_and_through_a_variable(tmp_path):
    text = json.dumps(content()).encode()
    (tmp_path / "task7_shops.json.gz").write_bytes(gzip.compress(text))
    with zipfile.ZipFile(tmp_path / "ni.zip", "w") as archive:
        archive.writestr("ni-master/tasks/task7_shops.json", text)
    for path in ("${NI}/task7_shops.json.gz", "${NI}/ni.zip!ni-master/tasks/task7_shops.json", "${NI}/task7*.gz"):
        task = find_task(f"super_ni:{path}", {"NI": str(tmp_path)})
        assert task.name == "super_ni/task7_shops"
        assert task.split("test")[3]["input"] == " shop 3"


# --- prompts ------------------------------------------------------------------------------------------------


def as_tk_instruct(task, instance, positive=0, negative=0, explained=False):
    """The prompt of Tk-Instruct's collator (src/ni_collator.py), written anew: what the templates must equal."""

    def ended(text):
        return text if text[-1] in string.punctuation else text + "."

    prompt = ended("Definition: " + task["Definition"][0].strip()) + "\n\n"
    for kind, count in (("Positive", positive), ("Negative", negative)):
        for number, example in enumerate(task[f"{kind} Examples"][:count], start=1):
            prompt += f" {kind} Example {number} -\n" + ended(f"Input: {example['input'].strip()}") + "\n"
            prompt += ended(f" Output: {example['output'].strip()}") + "\n"
            if explained and kind == "Positive" and example["explanation"].strip():
                prompt += ended(f" Explanation: {example['explanation'].strip()}") + "\n"
            prompt += "\n"
    prompt += "Now complete the following example -\n" + ended(f"Input: {instance['input'].strip()}") + "\nOutput: "
    return prompt.strip()


@settings(max_examples=25)
@given(st.lists(texts.filter(str.strip) | st.sampled_from(HOSTILE), min_size=8, max_size=8), st.data())
def test_the_encodings_of_the_paper_equal_those_of_its_code_whatever_the_texts(tmp_path_factory, words, data):
    plain = [word if word.strip() else "x" for word in words]
    example = {"input": plain[1], "output": plain[2], "explanation": plain[3]}
    other = {"input": plain[4], "output": plain[5], "explanation": plain[6]}
    given_ = content(
        instances=1, Definition=[plain[0]], **{"Positive Examples": [example, other], "Negative Examples": [other]}
    )
    given_["Instances"] = [{"input": plain[7], "output": [plain[2]]}]
    path = tmp_path_factory.mktemp("ni") / "task.json"
    path.write_text(json.dumps(given_), encoding="utf-8")
    task = find_task(f"super_ni:{path}")
    instance = given_["Instances"][0]
    for template, shown in {
        "definition": {},
        "definition_examples": {"positive": 2},
        "definition_explanations": {"positive": 2, "explained": True},
        "definition_counterexamples": {"positive": 2, "negative": 2},
    }.items():
        prompt, target = task.example(0, template=template, split="test")
        assert prompt == as_tk_instruct(given_, instance, **shown)
        assert target == plain[2].strip()


def test_there_are_phrasings_with_and_without_examples_and_those_with_get_no_exemplars(tmp_path):
    task = find_task(f"super_ni:{written(tmp_path)}")
    assert {template.name: template.few_shot for template in task.templates} == {
        "definition": True,
        "definition_examples": False,
        "definition_explanations": False,
        "definition_counterexamples": False,
        "instruction_first": True,
        "instruction_last": True,
        "input_output": True,
        "question_answer": True,
        "one_example": False,
    }
    prompts = [task.prompt(0, template=template.name, split="test") for template in task.templates]
    assert len(set(prompts)) == len(prompts)
    assert all("Say what the shop sells" in prompt and "shop 0" in prompt for prompt in prompts)


def test_a_file_without_examples_has_the_phrasings_without(tmp_path):
    path = written(tmp_path, **{"Positive Examples": [], "Negative Examples": []})
    names = [template["name"] for template in super_ni_task(path).data["templates"]]
    assert names == ["definition", "instruction_first", "instruction_last", "input_output", "question_answer"]


def test_examples_too_long_for_a_template_leave_the_shorter_ones(tmp_path):
    path = written(tmp_path, **{"Negative Examples": [{"input": "x" * 200_000, "output": "y", "explanation": ""}]})
    names = [template["name"] for template in super_ni_task(path).data["templates"]]
    assert "definition_counterexamples" not in names
    assert "definition_explanations" in names


# --- answers ------------------------------------------------------------------------------------------------


def test_several_outputs_are_several_references_and_the_first_is_the_target(tmp_path):
    instances = [{"input": "a", "output": ["x", "y", "z"]}, {"input": "b", "output": ["w"]}]
    task = find_task(f"super_ni:{written(tmp_path, Instances=instances)}")
    rows = task.split("test")
    assert task.example(0, split="test")[1] == "x"
    assert task.references(rows[0], "x") == ["x", "y", "z"]
    assert task.references(rows[1], "w") == ["w"]


def test_few_answers_that_each_come_often_are_choices_and_scored_by_accuracy(tmp_path):
    instances = [{"input": str(i), "output": [("Yes", "No")[i % 2]]} for i in range(8)]
    data = super_ni_task(written(tmp_path, Instances=instances)).data
    assert (data["answer_choices"], data["metrics"], data["max_new_tokens"]) == (
        ["Yes", "No"],
        ["accuracy", "rougeL"],
        8,
    )
    free = super_ni_task(written(tmp_path)).data
    assert "answer_choices" not in free
    assert free["metrics"] == ["rougeL", "exact_match"]


@pytest.mark.parametrize("outputs", [["Yes", "No"], ["Yes"]])
def test_answers_that_are_rare_or_several_are_no_choices(tmp_path, outputs):
    instances = [{"input": str(i), "output": outputs} for i in range(7)]
    assert "answer_choices" not in super_ni_task(written(tmp_path, Instances=instances)).data


def test_texts_written_for_one_task_are_no_origin_that_another_could_share(tmp_path):
    assert super_ni_task(written(tmp_path, Source=["synthetic"])).data["origins"] == ["super_ni/task7_shops_selling"]


def test_a_translation_names_both_languages_and_an_unknown_licence_is_none(tmp_path):
    path = written(
        tmp_path,
        Input_language=["English"],
        Output_language=["Spanish", "Klingon"],
        **{"Instance License": ["Unknown"]},
    )
    data = super_ni_task(path).data
    assert data["language"] == "en, es, klingon"
    assert "license" not in data


def test_the_older_form_with_texts_in_place_of_lists_is_read(tmp_path):
    older = content(instances=3, Definition="Say it.", Source="shops")
    for key in ("Domains", "Input_language", "Output_language", "Instance License", "Categories"):
        del older[key]
    older["Instances"] = [{"input": "a", "output": "b"}, {"input": "c", "output": ["d", "e"]}]
    older["Positive Examples"][0]["output"] = ["bread."]
    path = tmp_path / "task.json"
    path.write_text(json.dumps(older))
    task = find_task(f"super_ni:{path}")
    assert task.example(0, split="test")[1] == "b"
    assert task.references(task.split("test")[0], "b") == ["b"]
    assert task.references(task.split("test")[1], "d") == ["d", "e"]
    assert task.spec.cluster == "other"


def test_an_instance_without_output_is_left_out_and_told(tmp_path):
    instances = [{"input": "a", "output": [" "]}, {"input": "b", "output": ["c"]}]
    found = super_ni_task(written(tmp_path, Instances=instances))
    assert found.notes == ("left out for want of an output: 1 of 2 instances",)
    assert [row["input"] for row in find_task(f"super_ni:{found.path}").split("test")] == ["b"]


def test_what_a_large_file_holds_is_kept_until_the_file_changes(tmp_path):
    def large(definition):
        instances = [{"input": "x" * 5_000, "output": [("Yes", "No")[i % 2]]} for i in range(100)]
        return super_ni_task(written(tmp_path, Definition=definition, Instances=instances)).data

    before = set(digests.digests_folder().glob("*.json"))
    first = large("One.")
    (kept,) = (path for path in set(digests.digests_folder().glob("*.json")) - before if "parts" in path.read_text())
    assert "xxxxx" not in kept.read_text()
    assert large("One.") == first
    kept.write_text(kept.read_text().replace("One.", "Kept."))
    assert large("One.")["description"].startswith("Kept.")
    kept.write_text('{"parts": 1')  # a damaged one is made again
    assert large("One.") == first
    assert large("Two.")["description"].startswith("Two.")


# --- mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"Definition": []}, "has no Definition; a task file of Super-NaturalInstructions is wanted"),
        ({"Definition": [1]}, "Definition is no text and no list of texts"),
        ({"Instances": []}, "has no Instances; a task file of Super-NaturalInstructions is wanted"),
        ({"Instances": [{"input": "a"}]}, "Instances.0 is no {input: text, output: [text, ...]}"),
        ({"Instances": [{"input": "a", "output": []}]}, "Instances.0 is no {input: text, output: [text, ...]}"),
        ({"Instances": [{"input": "a", "output": ["b"]}, 5]}, "Instances.1 is no {input: text, output: [text, ...]}"),
        ({"Source": {"a": 1}}, "Source is no text and no list of texts"),
        ({"Negative Examples": 5}, "Negative Examples is no list of {input, output, explanation}"),
        ({"Positive Examples": [{"input": "a"}]}, "Positive Examples.0 is no {input, output, explanation} of texts"),
    ],
)
def test_a_part_that_is_wrong_is_named(tmp_path, changed, message):
    path = written(tmp_path, **changed)
    assert told(super_ni_task, path) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", ": is no JSON object; a task file of Super-NaturalInstructions is wanted"),
        ('{"Definition": "a",\n "Instances": [}', ":2: not valid JSON at column 16: Expecting value; JSON is wanted"),
        ("[" * 100_000, ": not usable JSON: nested more than 100 deep"),
    ],
)
def test_a_file_that_is_no_task_is_told_with_its_line(tmp_path, text, message):
    path = tmp_path / "task.json"
    path.write_text(text)
    assert told(super_ni_task, path) == f"{path}{message}"


def test_a_name_that_leads_to_no_file_or_to_several_is_told(tmp_path):
    assert told(super_ni_task, tmp_path / "no.json").startswith(f"{tmp_path}/no.json: no such file")
    written(tmp_path, "task1_a.json")
    written(tmp_path, "task2_b.json")
    assert told(super_ni_task, tmp_path / "task*.json") == f"{tmp_path}/task*.json: names 2 files; name one task file"
    with zipfile.ZipFile(tmp_path / "ni.zip", "w") as archive:
        for name in ("a.json", "b.json"):
            archive.writestr(name, json.dumps(content()))
    assert told(super_ni_task, tmp_path / "ni.zip!*.json") == (
        f"{tmp_path}/ni.zip: several files of the archive are called *.json; name one task file"
    )


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        (
            "super_ni",
            "a.json?tset=5",
            'a.json?tset=5: super_ni: unknown option "tset=5"; `?test=N` with a whole number is wanted',
        ),
        (
            "super_ni",
            "a.json?test=-5",
            'a.json?test=-5: super_ni: unknown option "test=-5"; `?test=N` with a whole number is wanted',
        ),
        ("lm_eval", "a.yaml?test=5", "a.yaml?test=5: lm_eval: takes no options after `?`; leave them out"),
        (
            "superni",
            "a.json",
            'a.json: unknown collection "superni"; did you mean "super_ni"? (lm_eval, promptsource, super_ni)',
        ),
        (
            "super_ni",
            "${NI}/a.json",
            "the path '${NI}/a.json' needs a value: put `variables: {NI: ...}` into the recipe",
        ),
    ],
)
def test_a_mistake_in_a_name_is_one_line(kind, path, message):
    assert told(foreign_task, kind, path) == message
