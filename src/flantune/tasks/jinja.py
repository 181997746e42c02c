"""Jinja in a sandbox: the text of a template, with the values of a row put in.

What a template may use is listed (`jinja_filters`), and what it does is charged and bounded (`jinja_values`). The
compiler writes some of Jinja's operations as bare Python (loops, comparisons, `~`, slices); here the tree of a
template is rewritten before it is compiled, so that those too go through a filter that charges them.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jinja2
import jinja2.meta
from jinja2 import nodes, pass_context
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import SandboxedEnvironment, SecurityError
from jinja2.visitor import NodeTransformer

from flantune.errors import FlantuneError, nearest
from flantune.tasks.jinja_filters import FILTERS, GLOBALS, TESTS
from flantune.tasks.jinja_values import (
    CALL,
    CHANGING,
    LONGEST_RENDERING,
    NODE,
    OPERATORS,
    STEP,
    Function,
    Method,
    NotText,
    NoValue,
    Rendering,
    TooLarge,
    attribute_of,
    defined,
    described,
    fits,
    hashable,
    item_of,
    items,
    text,
)

__all__ = [
    "FAILURES",
    "LONGEST_RENDERING",
    "LONGEST_TEMPLATE",
    "check_syntax",
    "environment",
    "fields_used",
    "forget_compiled",
    "literal",
    "render_text",
]

LONGEST_TEMPLATE = 100_000  # characters
LONGEST_ERROR = 500

FAILURES = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError, MemoryError)


class _Environment(SandboxedEnvironment):
    """Jinja where attributes, items, calls and operators are those of `jinja_values`."""

    context_class = Rendering
    intercepted_binops = frozenset(OPERATORS)

    def getattr(self, obj: Any, attribute: str) -> Any:
        return attribute_of(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        return item_of(obj, argument)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        return OPERATORS[operator](context.meter, left, right)

    def call(self, context: Any, callee: Any, /, *args: Any, **kwargs: Any) -> Any:
        meter = context.meter
        meter.spend(CALL * (1 + len(args) + len(kwargs)))
        kwargs.pop("_loop_vars", None)  # the compiler's, for functions that take the context
        kind = type(callee)
        if kind is Method:
            return callee.run(meter, callee.owner, *args, **kwargs)
        if kind is Function:
            return callee.run(meter, *args, **kwargs)
        if kind is Macro:
            return meter.made(callee(*args, **kwargs))
        if kind is LoopContext:
            return meter.made(callee(*[items(meter, value) for value in args]))
        if isinstance(callee, jinja2.Undefined):
            return callee()
        raise TypeError(f"{described(callee)} cannot be called")

    def call_filter(self, name: Any, *args: Any, **kwargs: Any) -> Any:
        if name in CHARGES:  # `map` takes any text for a name
            raise jinja2.TemplateRuntimeError(f"No filter named {name!r}.")
        return super().call_filter(name, *args, **kwargs)

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:  # of what a macro or a `set` block writes
        gathered, length = [], 0
        for piece in pieces:
            length += len(piece)
            fits(length)
            gathered.append(piece)
        return "".join(gathered)


@pass_context
def _text(context: Rendering, value: Any) -> str:
    return value if type(value) is str else text(context.meter, value)


@pass_context
def _items(context: Rendering, value: Any, turn: int) -> Any:
    return items(context.meter, value, turn)


@pass_context
def _spend(context: Rendering, cost: int) -> None:
    context.meter.spend(cost)


@pass_context
def _weighed(context: Rendering, value: Any) -> Any:
    context.meter.weigh(value)
    return value


@pass_context
def _made(context: Rendering, value: Any) -> Any:
    return context.meter.made(value)


def _sliced(value: Any) -> Any:
    if not isinstance(defined(value), (str, list, tuple, range)):
        raise TypeError(f"{type(value).__name__!r} object has no slices")
    return value


# Names that no template can write before a `|`.
CHARGES: dict[str, Callable[..., Any]] = {
    "= items": _items,
    "= key": hashable,
    "= made": _made,
    "= sliced": _sliced,
    "= spend": _spend,
    "= text": _text,
    "= weighed": _weighed,
}


@functools.cache
def environment() -> jinja2.Environment:
    """The one Jinja environment: sandboxed, undefined fields are errors, white space kept as written.

    `{{ "first name" | field }}` is the field of a name that Jinja could not read otherwise; `choices | choice(2)` is
    one of a list. What would differ from one rendering to the next is left out.
    """
    made: Any = _Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
        finalize=_text,
        optimized=False,  # nothing is worked out before a row is there to charge it to
    )
    made.filters = FILTERS | CHARGES
    made.tests = dict(TESTS)
    made.globals = dict(GLOBALS)
    return made


# --- compiling ------------------------------------------------------------------------------------------------------


class _Charging(NodeTransformer):
    """Puts a charge around what Jinja compiles to bare Python, and refuses what reaches outside the template."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        if isinstance(node, OUTSIDE):
            told = "autoescape" if isinstance(node, nodes.ScopedEvalContextModifier) else type(node).__name__.lower()
            raise jinja2.TemplateSyntaxError(f"{{% {told} %}} is not for templates of tasks", node.lineno)
        if isinstance(node, nodes.Name) and node.name == "self":  # Jinja's own, whatever the row has
            raise jinja2.TemplateSyntaxError("a field of this name is written {{ 'self' | field }}", node.lineno)
        return CHARGED.get(type(node), _as_it_is)(self.generic_visit(node))


OUTSIDE = (
    nodes.Include,
    nodes.Import,
    nodes.FromImport,
    nodes.Extends,
    nodes.Block,
    nodes.ScopedEvalContextModifier,  # {% autoescape %}
)


def _filtered(node: Any, name: str, *args: nodes.Expr) -> Any:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _as_it_is(node: Any) -> Any:
    return node


def _cost(*parts: nodes.Node) -> nodes.Const:
    """What a turn or a call costs that does all that stands in it."""
    return nodes.Const(STEP + NODE * sum(1 for part in parts for _ in part.find_all(nodes.Node)))


def _charged_loop(node: nodes.For) -> nodes.Node:
    cost = _cost(*node.body, *([node.test] if node.test else []))
    node.iter = _filtered(node.iter, "= items", cost)
    return _charged_body(node) if node.recursive else node


def _charged_body(node: Any) -> nodes.Node:
    """A loop, macro or call block that charges itself whenever it runs, whoever calls it."""
    charge = _filtered(_cost(*node.body), "= spend")
    node.body.insert(0, nodes.ExprStmt(charge, lineno=node.lineno))
    return node


def _charged_comparison(node: nodes.Compare | nodes.Operand) -> nodes.Node:
    if not isinstance(node.expr, nodes.Const):
        node.expr = _filtered(node.expr, "= weighed")
    return node


def _charged_concat(node: nodes.Concat) -> nodes.Node:
    node.nodes = [_filtered(part, "= text") for part in node.nodes]
    return _filtered(node, "= made")


def _charged_slice(node: nodes.Getitem) -> nodes.Node:
    if not isinstance(node.arg, nodes.Slice):
        return node
    node.node = _filtered(node.node, "= sliced")
    return _filtered(node, "= made")


def _charged_set_block(node: nodes.AssignBlock) -> nodes.Node:
    node.filter = nodes.Filter(node.filter, "= made", [], [], None, None, lineno=node.lineno)  # of None: the block
    return node


def _checked_key(node: nodes.Pair) -> nodes.Node:
    node.key = _filtered(node.key, "= key")
    return node


CHARGED: dict[type[nodes.Node], Callable[[Any], nodes.Node]] = {
    nodes.For: _charged_loop,
    nodes.Macro: _charged_body,
    nodes.CallBlock: _charged_body,
    nodes.Compare: _charged_comparison,
    nodes.Operand: _charged_comparison,
    nodes.Concat: _charged_concat,
    nodes.Getitem: _charged_slice,
    nodes.AssignBlock: _charged_set_block,
    nodes.Pair: _checked_key,
}


class _Compiled(NamedTuple):
    """A template that can be rendered.

    Attributes:
        template: Jinja's.
        changes: Whether it calls a method that changes a list or mapping, and so needs a copy of the row.
    """

    template: jinja2.Template
    changes: bool


def _parsed(text: str) -> nodes.Template:
    if len(text) > LONGEST_TEMPLATE:
        raise jinja2.TemplateSyntaxError(f"longer than {LONGEST_TEMPLATE:,} characters", 1)
    return environment().parse(text)


@functools.lru_cache(maxsize=20_000)
def _compiled(text: str) -> _Compiled:
    try:
        tree = _parsed(text)
        changes = any(node.attr in CHANGING for node in tree.find_all(nodes.Getattr))
        code = environment().compile(_Charging().visit(tree))
    except (RecursionError, MemoryError):  # of Python's parser and compiler
        raise jinja2.TemplateSyntaxError("nested too deeply", 1) from None
    except SyntaxError as error:
        raise jinja2.TemplateSyntaxError(error.msg, 1) from None
    except (ValueError, OverflowError) as error:  # a number that Python does not read
        raise jinja2.TemplateSyntaxError(str(error), 1) from None
    return _Compiled(jinja2.Template.from_code(environment(), code, environment().globals), changes)


def forget_compiled(most: int) -> None:
    """Lets go of all compiled templates where there are more than some."""
    if _compiled.cache_info().currsize > most:
        _compiled.cache_clear()


def check_syntax(text: str) -> str | None:
    """What is wrong with a Jinja text, or None."""
    try:
        _compiled(text)
    except jinja2.TemplateSyntaxError as error:
        return f"not valid Jinja (line {error.lineno} of the text): {error.message}"
    return None


def fields_used(text: str) -> set[str]:
    """Names that a Jinja text takes from the row."""
    tree = _parsed(text)
    quoted = {
        node.node.value
        for node in tree.find_all(nodes.Filter)
        if node.name == "field" and isinstance(node.node, nodes.Const)
    }
    names = jinja2.meta.TrackingCodeGenerator(environment())
    names.optimizer = None  # it would work out constants
    names.visit(tree)
    return names.undeclared_identifiers | quoted


def literal(text: str) -> str:
    """Jinja that renders to a text, whatever stands in it."""
    plain = not re.search(r"[{|\r]", text)
    return text if plain else f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"


# --- rendering ------------------------------------------------------------------------------------------------------


def render_text(text: str, values: Mapping[str, Any], what: str) -> str:
    """Renders one Jinja text with the values of a row.

    Args:
        text: The Jinja source.
        values: Field name to value.
        what: How an error names this text, such as `template "short"`.
    Raises:
        FlantuneError: A field that the row lacks or in which nothing stands, an unsafe operation, an operation that
            fails on this row, more work than a rendering may take, or more than `LONGEST_RENDERING` characters.
    """
    try:
        return _rendered(_compiled(text), values)
    except (jinja2.TemplateError, *FAILURES) as error:
        said = _told(error, text, values)
    raise FlantuneError(f"{what}{said if len(said) < LONGEST_ERROR else said[:LONGEST_ERROR] + '...'}")


def _told(error: Exception, text: str, values: Mapping[str, Any]) -> str:
    """What an error says to the template's author; follows the template's name."""
    if isinstance(error, NoValue):
        return f" {error}{_without_value(text, values)}"
    if isinstance(error, NotText):
        return f" {error}"
    if isinstance(error, TooLarge):
        return f" {error}; shorten it"
    if isinstance(error, jinja2.UndefinedError):
        return _undefined(error.message or "", values)
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f" is not valid Jinja (line {error.lineno} of the text): {error.message}"
    if isinstance(error, SecurityError):
        return f" does what a template may not do: {error}"
    if isinstance(error, MemoryError):
        return " needs more memory than there is; shorten it"
    if isinstance(error, RecursionError):
        return " goes too deep: a macro calls itself, or values nest, without an end"
    return f" fails on this row: {type(error).__name__}: {error}"


def _rendered(compiled: _Compiled, values: Mapping[str, Any]) -> str:
    row = _copied(dict(values)) if compiled.changes else dict(values)
    context: Any = compiled.template.new_context(row)
    context.row = values
    pieces, length = [], 0
    for piece in compiled.template.root_render_func(context):
        length += len(piece)
        if length > LONGEST_RENDERING:
            raise TooLarge(f"renders more than {LONGEST_RENDERING:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def _copied(value: Any) -> Any:
    """A value whose lists and mappings may be changed."""
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, dict) else value


def _undefined(message: str, values: Mapping[str, Any]) -> str:
    name = re.fullmatch(r"(['\"])(.{1,100})\1 is undefined", message, re.DOTALL)
    if name is not None and name[2] not in values:
        return f' asks for field "{name[2]}", which the row lacks; {nearest(name[2], values)}'
    return f": {message}"


def _without_value(text: str, values: Mapping[str, Any]) -> str:
    """The end of a message about a none or nan that was written: where it may come from, what to do."""
    empty = sorted(name for name in fields_used(text) & values.keys() if _is_empty(values[name]))
    if not empty:
        return "; give a default, such as {{ x | default('', true) }}"
    name = empty[0] if empty[0].isidentifier() else f"'{empty[0]}' | field"
    default = f", or give a default: {{{{ {name} | default('', true) }}}}" if values[empty[0]] is None else ""
    return f': field "{empty[0]}" of the row has no value; filter such rows{default}'


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)
