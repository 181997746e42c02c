"""Exemplars: solved examples before the question, in the manner of FLAN's few-shot prompts.

FLAN's rules (Longpre et al. 2023, arXiv:2301.13688, section 2): exemplars are asked by the question's own template,
they give way one by one until the prompt fits, and a prompt that keeps none is an ordinary zero-shot prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flantune.errors import named

Solved = tuple[str, str]  # input and target


@dataclass(frozen=True)
class ExemplarFormat:
    """How solved examples and the question stand one after the other.

    Attributes:
        name: As task files name it.
        example: A solved example; `{n}` is its number from 1, `{input}` and `{target}` its texts.
        question: The question after them.
        between: Stands between any two of them.
    """

    name: str
    example: str
    question: str
    between: str = "\n\n"

    def prompt(self, exemplars: Sequence[Solved], question: str) -> str:
        """One prompt; without exemplars it is the question alone."""
        if not exemplars:
            return question
        solved = [
            _filled(self.example, n=str(number), input=given, target=target)
            for number, (given, target) in enumerate(exemplars, start=1)
        ]
        return self.between.join([*solved, _filled(self.question, n=str(len(solved) + 1), input=question)])


def _filled(form: str, **texts: str) -> str:
    """Each text in its place, once: what a text says in braces stays as it is."""
    pieces = []
    for before_and_name in form.split("{"):
        name, brace, after = before_and_name.partition("}")
        pieces.append(texts[name] + after if brace else before_and_name)
    return "".join(pieces)


FORMATS: dict[str, ExemplarFormat] = {
    form.name: form
    for form in (
        ExemplarFormat("lines", "{input}\n{target}", "{input}"),
        ExemplarFormat("spaced", "{input}\n\n{target}", "{input}", between="\n\n\n"),
        ExemplarFormat("question_answer", "Q: {input}\nA: {target}", "Q: {input}\nA:"),
        ExemplarFormat("question_answer_words", "Question: {input}\nAnswer: {target}", "Question: {input}\nAnswer:"),
        ExemplarFormat("input_output", "Input: {input}\nOutput: {target}", "Input: {input}\nOutput:"),
        ExemplarFormat("numbered", "Example {n}:\n{input}\nSolution: {target}", "Example {n}:\n{input}\nSolution:"),
        ExemplarFormat("rules", "{input}\n--\n{target}", "{input}\n--", between="\n====\n"),
        ExemplarFormat("your_turn", "{input}\n=> {target}", "Now it is your turn.\n{input}\n=>"),
    )
}


def exemplar_format(name: str) -> ExemplarFormat:
    """The format of a name.

    Raises:
        FlantuneError: Unknown, with the nearest name.
    """
    return named(name, FORMATS, "exemplar format")
