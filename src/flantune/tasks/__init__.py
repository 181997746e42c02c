"""Tasks: named sources of examples with templates and metrics."""

from flantune.tasks.find import find_task, starter_tasks
from flantune.tasks.task import Task, load_task
from flantune.tasks.template import Template

__all__ = ["Task", "Template", "find_task", "load_task", "starter_tasks"]
