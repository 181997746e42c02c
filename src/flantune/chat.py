"""A conversation with a model, and with its base beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from flantune.errors import FlantuneError
from flantune.evaluation.generate import generate
from flantune.models.load import LoadedModel, load_model
from flantune.run_folder import read_recipe
from flantune.tasks.conversation import Conversation, Turn


@dataclass
class Chat:
    """Models that answer the same prompts, each in its own conversation.

    Attributes:
        models: Who answers, by name.
        max_new_tokens: Longest answer.
    """

    models: dict[str, LoadedModel]
    max_new_tokens: int
    turns: dict[str, list[Turn]] = field(default_factory=dict)

    @classmethod
    def open(cls, run_or_model: str, *, with_base: bool, max_new_tokens: int) -> Chat:
        """Loads a run's model (and its base), or any model.

        Raises:
            FlantuneError: No such run or model.
        """
        folder = Path(run_or_model)
        models = {}
        if (folder / "recipe.yaml").exists():
            recipe = read_recipe(folder)
            if not (folder / "model").is_dir():
                raise FlantuneError(f"not trained to its end; go on with: flantune train --resume {folder}", folder)
            models["tuned"] = load_model(
                str(folder / "model"), revision=recipe.model.revision, system=recipe.model.system, answering=True
            )
            if with_base:
                models["base"] = load_model(
                    recipe.model.name, revision=recipe.model.revision, system=recipe.model.system, answering=True
                )
        else:
            models["model"] = load_model(run_or_model, answering=True)
        return cls(models, max_new_tokens)

    def clear(self) -> None:
        """Forgets the conversation."""
        self.turns.clear()

    def ask(self, text: str) -> list[tuple[str, str]]:
        """Who answered what."""
        answers = []
        for who, loaded in self.models.items():
            past = self.turns.setdefault(who, [])
            prompt = loaded.format.prompt_ids(Conversation([*past, ("user", text)]))
            answer = generate(loaded, [prompt], max_new_tokens=self.max_new_tokens)[0].text.strip()
            past += [("user", text), ("assistant", answer)]
            answers.append((who, answer))
        return answers
