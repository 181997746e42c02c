"""Collections of others, read in place: each file turned into what a flantune task file says."""

from flantune.tasks.foreign.find import FOREIGN, foreign_task
from flantune.tasks.foreign.foreign_task import ForeignTask
from flantune.tasks.foreign.promptsource import promptsource_templates

__all__ = ["FOREIGN", "ForeignTask", "foreign_task", "promptsource_templates"]
