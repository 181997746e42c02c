"""How a prompt and an answer become tokens: one renderer for training, evaluation and chat.

Prompt and target are tokenized apart, so no token spans the seam and the prompt's ids are the same in training and
in generation. Text from rows never becomes a control token, whatever it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flantune.errors import FlantuneError
from flantune.files import digest
from flantune.tasks.conversation import Conversation, Turn

# Some chat templates put today's date in: a run that is gone on with tomorrow would have other prompts.
FIXED_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"
MARK = "\ue000content\ue001"  # private-use characters: stands in for the user's text while the chat template renders


class PromptFormat:
    """The tokenizer's chat template where there is one, else the prompt, a blank line, the answer.

    For an encoder-decoder (`paired`) neither: prompt and answer are sequences of their own, each with the control
    tokens that the tokenizer puts around an input, or around a target.

    Args:
        tokenizer: A Hugging Face tokenizer.
        system: System text, put where the chat template has a place for it.
        stop_ids: Tokens that end an answer, the one to train on first.
        positions: Tokens that the model has positions for; None where it does not say.
        paired: The model is an encoder-decoder, so a row holds inputs and targets apart.
        start: What an encoder-decoder's target begins behind, and so no part of it.

    Attributes:
        target_head: Control tokens that every answer begins with: BART's `<s>`, a language of mBART. None in most.
    """

    def __init__(
        self,
        tokenizer: Any,
        system: str,
        stop_ids: tuple[int, ...],
        positions: int | None = None,
        *,
        paired: bool = False,
        start: int | None = None,
    ) -> None:
        self.tokenizer, self.system, self.stop_ids, self.positions = tokenizer, system, stop_ids, positions
        self.paired = paired
        self._template: Any = None if paired else tokenizer.chat_template
        self._head, self._tail = self._around()
        self.target_head = [i for i in self._added(text_target="a")[0] if i != start] if paired else []

    def _around(self) -> tuple[list[int], list[int]]:
        """Ids before and after the user's text."""
        if self.paired or self._template is None:
            head, tail = self._around_input() if self.paired else self._around_text()
            return head + (self._control(self.system + "\n\n") if self.system else []), tail
        messages = [{"role": "system", "content": self.system}, {"role": "user", "content": MARK}]
        try:
            text = self._rendered(messages)
        except Exception:  # templates without a system role raise errors of their own making
            if self.system:
                raise FlantuneError(
                    "the model's chat template has no place for a system text; leave model.system empty"
                ) from None
            text = self._rendered(messages[1:])
        head, mark, tail = text.partition(MARK)
        if not mark:
            raise FlantuneError("the model's chat template changes the user's text, so prompts cannot be built from it")
        return self._control(head), self._control(tail)

    def _around_text(self) -> tuple[list[int], list[int]]:
        bos = self.tokenizer.bos_token_id
        head = [bos] if bos is not None and self.tokenizer("a").input_ids[:1] == [bos] else []
        return head, self._control("\n\n")

    def _around_input(self) -> tuple[list[int], list[int]]:
        head, tail = self._added(text="a")  # T5 has a token at its end, T5Gemma one at its beginning, BART both
        return head, tail if head or tail else [self.stop_ids[0]]

    def _added(self, **text: str) -> tuple[list[int], list[int]]:
        """Ids that the tokenizer puts before and after a text."""
        try:
            ids, plain = self.tokenizer(**text).input_ids, self.tokenizer(add_special_tokens=False, **text).input_ids
        except (TypeError, KeyError, ValueError) as error:  # of tokenizers that ask for languages, among others
            raise FlantuneError(
                f"the model's tokenizer cannot say how a text begins and ends ({error}); where it is one of several "
                "languages, set src_lang and tgt_lang in its tokenizer_config.json"
            ) from None
        places = [i for i in range(len(ids)) if ids[i : i + len(plain)] == plain]
        return (ids[: places[0]], ids[places[0] + len(plain) :]) if places else ([], [])

    def _rendered(self, messages: list[dict[str, str]]) -> str:
        template = self._template
        if isinstance(template, dict):
            template = template["default"]
        return str(
            self.tokenizer.apply_chat_template(
                messages, chat_template=FIXED_DATE + template, tokenize=False, add_generation_prompt=True
            )
        )

    def _control(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    def prompt_ids(self, text: str) -> list[int]:
        """Ids of everything before the answer; a `Conversation` is put in turn by turn, each in its role.

        Raises:
            FlantuneError: A conversation that the model's chat template does not allow.
        """
        if isinstance(text, Conversation):
            return self._conversation_ids(text.turns)
        return [*self._head, *self._plain(text), *self._tail]

    def target_ids(self, text: str) -> list[int]:
        """Ids of the answer and its end token."""
        return [*self.target_head, *self._plain(text), self.stop_ids[0]]

    def text_ids(self, text: str) -> tuple[list[int], list[int]]:
        """Ids that the tokenizer puts before any text (Llama's `<s>`; often none), and those of a text by itself."""
        return self._added(text="a")[0], self._plain(text)

    def ids_of_all(self, prompts: Sequence[str], targets: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """`prompt_ids` and `target_ids` of many examples; the tokenizer reads all their texts at once."""
        texts = [text for text in (*prompts, *targets) if not isinstance(text, Conversation)]
        plain = iter(self._plain_ids(texts))
        inputs = [
            self.prompt_ids(text) if isinstance(text, Conversation) else [*self._head, *next(plain), *self._tail]
            for text in prompts
        ]
        return [(given, [*self.target_head, *next(plain), self.stop_ids[0]]) for given in inputs]

    def _plain_ids(self, texts: list[str]) -> list[list[int]]:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None or not texts:
            return self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True).input_ids if texts else []
        # As the tokenizer's own call, less the offsets, masks and checks, which cost a quarter of the time.
        backend.encode_special_tokens = True
        backend.no_truncation()
        backend.no_padding()
        return [encoded.ids for encoded in backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _conversation_ids(self, turns: Sequence[Turn]) -> list[int]:
        if self.paired:
            return self.prompt_ids(_as_text(turns))
        if self._template is None:
            return self._plain_conversation_ids(turns)
        if self.system and turns[0][0] != "system":
            turns = [("system", self.system), *turns]
        marks = [f"{MARK}{number}{MARK}" for number in range(len(turns))]
        try:
            rest = self._rendered(
                [{"role": role, "content": mark} for (role, _), mark in zip(turns, marks, strict=True)]
            )
        except Exception as error:  # templates raise errors of their own making
            raise FlantuneError(f"the model's chat template does not allow this order of roles: {error}") from None
        ids: list[int] = []
        for (_, text), mark in zip(turns, marks, strict=True):
            before, found, rest = rest.partition(mark)
            if not found:
                raise FlantuneError("the model's chat template leaves out or moves a turn of the conversation")
            ids += [*self._control(before), *self._plain(text)]
        return [*ids, *self._control(rest)]

    def _plain_conversation_ids(self, turns: Sequence[Turn]) -> list[int]:
        """Each answer ends as in training: with the end token."""
        ids = list(self._head)
        for role, text in turns:
            ids += self.target_ids(text) if role == "assistant" else [*self._plain(text), *self._tail]
        return ids

    def text(self, ids: list[int]) -> str:
        """An answer's text, control tokens left out."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def fingerprint(self) -> str:
        """Changes whenever the ids for some text may change."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        described = backend.to_str() if backend is not None else sorted(self.tokenizer.get_vocab().items())
        return digest(described, self._head, self._tail, self.target_head, self.stop_ids)


def _as_text(turns: Sequence[Turn]) -> str:
    """A conversation in one text, each turn behind its role; a first question alone is only itself."""
    if len(turns) == 1 and turns[0][0] == "user":
        return turns[0][1]
    return "\n".join(f"{role}: {text}" for role, text in turns)
