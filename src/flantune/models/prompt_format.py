"""How a prompt and an answer become tokens: one renderer for training, evaluation and chat.

Prompt and target are tokenized apart, so no token spans the seam and the prompt's ids are the same in training and
in generation. Text from rows never becomes a control token, whatever it says.
"""

from __future__ import annotations

from typing import Any

from flantune.errors import FlantuneError
from flantune.files import digest

# Some chat templates put today's date in: a run that is gone on with tomorrow would have other prompts.
FIXED_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"
MARK = "\ue000content\ue001"  # private-use characters: stands in for the user's text while the chat template renders


class PromptFormat:
    """The tokenizer's chat template where there is one, else the prompt, a blank line, the answer.

    Args:
        tokenizer: A Hugging Face tokenizer.
        system: System text, put where the chat template has a place for it.
        stop_ids: Tokens that end an answer, the one to train on first.
        positions: Tokens that the model has positions for; None where it does not say.
    """

    def __init__(self, tokenizer: Any, system: str, stop_ids: tuple[int, ...], positions: int | None = None) -> None:
        self.tokenizer, self.system, self.stop_ids, self.positions = tokenizer, system, stop_ids, positions
        self._head, self._tail = self._around()

    def _around(self) -> tuple[list[int], list[int]]:
        """Ids before and after the user's text."""
        if self.tokenizer.chat_template is None:
            bos = self.tokenizer.bos_token_id
            head = [bos] if bos is not None and self.tokenizer("a").input_ids[:1] == [bos] else []
            head += self._control(self.system + "\n\n") if self.system else []
            return head, self._control("\n\n")
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

    def _rendered(self, messages: list[dict[str, str]]) -> str:
        template = self.tokenizer.chat_template
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
        """Ids of everything before the answer."""
        return [*self._head, *self._plain(text), *self._tail]

    def target_ids(self, text: str) -> list[int]:
        """Ids of the answer and its end token."""
        return [*self._plain(text), self.stop_ids[0]]

    def conversation_ids(self, turns: list[tuple[str, str]], text: str) -> list[int]:
        """Ids of a conversation so far (prompt, answer) and the next prompt."""
        ids: list[int] = []
        for prompt, answer in turns:
            ids += [*self._head, *self._plain(prompt), *self._tail, *self.target_ids(answer), *self._control("\n")]
        return [*ids, *self.prompt_ids(text)]

    def text(self, ids: list[int]) -> str:
        """An answer's text, control tokens left out."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def fingerprint(self) -> str:
        """Changes whenever the ids for some text may change."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        described = backend.to_str() if backend is not None else sorted(self.tokenizer.get_vocab().items())
        return digest(described, self._head, self._tail, self.stop_ids)
