"""Small mistakes in the core.

First all are compiled into it at once, every place as `wrong if switched_on(number) else right`, with all switches off: that
tells which tests come to which place. Then the functions get their own code back, and a process that is forked for a mistake
gives its module the code with that one mistake in it, at full speed.

A mistake is another comparison, operator, number, branch or member of an enumeration, a condition without one of its parts, or
nothing returned, assigned or given to a call.
Left out is what no test should pin, or what cannot be wrong by itself:

- docstrings, and the words of messages (whether there is a message at all is not);
- annotations, and the options of a struct;
- asserts: they say what cannot happen;
- what a module computes as it is loaded, functions that only that calls included: the conditions of the table's rows and the
  presets. That each cell lies in one row is proved by trying all, and the page that is generated from them is compared.
"""

from __future__ import annotations

import ast
import copy
import gc
import importlib.abc
import importlib.util
import pkgutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from enum import StrEnum
    from importlib.machinery import ModuleSpec
    from types import ModuleType

PACKAGE = "failover.core"
SWITCH = "__switched_on__"
OTHER = "__other_member__"

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake. `number` is its switch."""

    number: int
    module: str
    line: int
    what: str

    def __str__(self) -> str:
        """Say where and what."""
        return f"{self.module.removeprefix(PACKAGE + '.')}.py:{self.line}: {self.what}"


@dataclass(slots=True)
class Switches:
    """Which places have been reached; all switches are off."""

    reached: set[int] = field(default_factory=set)

    def __call__(self, number: int) -> bool:
        """Take down that a test came here."""
        self.reached.add(number)
        return False


SWITCHES = Switches()


def other_member(member: StrEnum, step: int) -> StrEnum:
    """Return the member so many places further on; without end, so that each has two neighbours."""
    members = list(type(member))
    return members[(members.index(member) + step) % len(members)]


MUTANTS: list[Mutant] = []


class Mutator(ast.NodeTransformer):
    """Puts the switches into the bodies of functions; what a module computes as it is loaded stays as it is."""

    def __init__(self, module: str, first: int, only: int | None = None) -> None:
        """Number the mistakes from `first` on; with `only`, make that one and leave the others out."""
        self.module = module
        self.depth = 0
        self.number = first
        self.only = only

    def _switched(self, right: ast.expr, wrongs: Sequence[tuple[ast.expr, str]]) -> ast.expr:
        made: ast.expr = right
        for wrong, what in wrongs:
            number, self.number = self.number, self.number + 1
            if self.only is None:
                MUTANTS.append(Mutant(number, self.module, right.lineno, what))
                test = ast.Call(ast.Name(SWITCH, ast.Load()), [ast.Constant(number)], [])
                made = ast.IfExp(test, wrong, made)
            elif self.only == number:
                made = wrong
        return ast.fix_missing_locations(ast.copy_location(made, right))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Only bodies: annotations, defaults and decorators belong to the module."""
        begin, where = self.number, (self.module, node.lineno)
        if self.only is not None and self.only not in WITHIN[where]:
            self.number = WITHIN[where].stop  # it is elsewhere
            return node
        self.depth += 1
        node.body = [self.visit(one) for one in node.body]
        self.depth -= 1
        WITHIN[where] = range(begin, self.number)
        return node

    def visit(self, node: ast.AST) -> Any:
        """Leave asserts, docstrings and annotations alone."""
        if isinstance(node, ast.Assert | ast.arguments) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            return node
        return super().visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Only the value."""
        if node.value is not None and self.depth:
            node.value = self.visit(node.value)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """Another comparison."""
        before = copy.deepcopy(node)
        self.generic_visit(node)
        if not self.depth:
            return node
        wrongs = []
        for index, operator in enumerate(before.ops):
            for other in COMPARISONS.get(type(operator), ()):
                wrong = copy.deepcopy(before)
                wrong.ops[index] = other()
                wrongs.append((wrong, f"{ast.unparse(before)}  ->  {ast.unparse(wrong)}"))
        return self._switched(node, wrongs)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        """And for or, and each part left out."""
        before = copy.deepcopy(node)
        self.generic_visit(node)
        if not self.depth:
            return node
        other = copy.deepcopy(before)
        other.op = ast.And() if isinstance(before.op, ast.Or) else ast.Or()
        wrongs: list[tuple[ast.expr, str]] = [(other, f"{ast.unparse(before)}  ->  {ast.unparse(other)}")]
        for index, part in enumerate(before.values):
            rest = [copy.deepcopy(one) for place, one in enumerate(before.values) if place != index]
            wrong: ast.expr = rest[0] if len(rest) == 1 else ast.BoolOp(before.op, rest)
            wrongs.append((wrong, f"{ast.unparse(before)}  without  {ast.unparse(part)}"))
        return self._switched(node, wrongs)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """No not."""
        before = copy.deepcopy(node)
        self.generic_visit(node)
        if not self.depth or not isinstance(before.op, ast.Not):
            return node
        return self._switched(node, [(before.operand, f"{ast.unparse(before)}  ->  {ast.unparse(before.operand)}")])

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Another operator."""
        before = copy.deepcopy(node)
        self.generic_visit(node)
        other = OPERATORS.get(type(before.op))
        if not self.depth or other is None:
            return node
        wrong = copy.deepcopy(before)
        wrong.op = other()
        return self._switched(node, [(wrong, f"{ast.unparse(before)}  ->  {ast.unparse(wrong)}")])

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """One more; true for false."""
        if not self.depth or not isinstance(node.value, bool | int | float):
            return node
        wrong = ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)
        return self._switched(node, [(wrong, f"{node.value!r}  ->  {wrong.value!r}")])

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """What is said to a person may be said otherwise."""
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Min for max, any for all; None for an argument, unless it is made of words or None itself."""
        before = copy.deepcopy(node)
        self.generic_visit(node)
        if not self.depth:
            return node
        wrongs: list[tuple[ast.expr, str]] = []
        name = before.func.id if isinstance(before.func, ast.Name) else ""
        if name in CALLS:
            wrong = copy.deepcopy(before)
            wrong.func = ast.Name(CALLS[name], ast.Load())
            wrongs.append((wrong, f"{ast.unparse(before)}  ->  {CALLS[name]}(...)"))
        for index, argument in enumerate(before.args):
            if not isinstance(argument, ast.Constant | ast.JoinedStr | ast.BinOp | ast.GeneratorExp | ast.Starred):
                wrong = copy.deepcopy(before)
                wrong.args[index] = ast.Constant(None)
                wrongs.append((wrong, f"{ast.unparse(before.func)}(...) without {ast.unparse(argument)}"))
        for index, keyword in enumerate(before.keywords):
            if not isinstance(keyword.value, ast.Constant):
                wrong = copy.deepcopy(before)
                wrong.keywords[index].value = ast.Constant(None)
                wrongs.append((wrong, f"{ast.unparse(before.func)}(...) without {keyword.arg}"))
        return self._switched(node, wrongs)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Another member of an enumeration: the next one and the one before."""
        if not self.depth or not (
            isinstance(node.value, ast.Name) and node.value.id[0].isupper() and node.attr.isupper()
        ):
            self.generic_visit(node)
            return node
        wrongs = []
        for step in (1, -1):
            wrong = ast.Call(ast.Name(OTHER, ast.Load()), [copy.deepcopy(node), ast.Constant(step)], [])
            wrongs.append((wrong, f"{ast.unparse(node)}  ->  the {'next' if step > 0 else 'previous'} one"))
        return self._switched(node, wrongs)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """Nothing is assigned."""
        before = copy.deepcopy(node.value)
        self.generic_visit(node)
        if self.depth and not isinstance(before, ast.Constant | ast.Tuple):
            what = f"{ast.unparse(node.targets[0])} = None instead of {ast.unparse(before)}"
            node.value = self._switched(node.value, [(ast.Constant(None), what)])
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        """The other branch."""
        before = copy.deepcopy(node.test)
        self.generic_visit(node)
        if self.depth:
            node.test = self._negated(before, node.test)
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        """The other branch."""
        before = copy.deepcopy(node.test)
        self.generic_visit(node)
        if self.depth:
            node.test = self._negated(before, node.test)
        return node

    def _negated(self, before: ast.expr, now: ast.expr) -> ast.expr:
        wrong = ast.UnaryOp(ast.Not(), before)
        return self._switched(now, [(wrong, f"if {ast.unparse(before)}  ->  if not")])

    def visit_Return(self, node: ast.Return) -> ast.AST:
        """Nothing is returned."""
        if node.value is None:
            return node
        before = copy.deepcopy(node.value)
        node.value = self.visit(node.value)
        if not isinstance(before, ast.Constant):
            node.value = self._switched(node.value, [(ast.Constant(None), f"return {ast.unparse(before)}  ->  None")])
        return node


def mutated(module: str, source: str) -> ast.Module:
    """Return the module with all switches in it, and add its mutants to MUTANTS."""
    FIRST[module] = len(MUTANTS)
    tree: ast.Module = Mutator(module, FIRST[module]).visit(ast.parse(source))
    return ast.fix_missing_locations(tree)


WITHIN: dict[tuple[str, int], range] = {}  # the mistakes in each function
FIRST: dict[str, int] = {}  # the number of each module's first mistake


def code_of(module: str, only: int | None) -> dict[str, CodeType]:
    """Compile a module with one mistake, or without any; return the code of its functions and methods by name."""
    file = Path(str(sys.modules[module].__file__))
    tree = ast.parse(file.read_text())
    if only is not None:
        tree = ast.fix_missing_locations(Mutator(module, FIRST[module], only).visit(tree))
    found: dict[str, CodeType] = {}
    waiting = [compile(tree, str(file), "exec")]
    while waiting:
        for one in waiting.pop().co_consts:
            if isinstance(one, CodeType):
                found[one.co_qualname] = one
                if not one.co_flags & OPTIMIZED:  # the body of a class
                    waiting.append(one)
    return found


OPTIMIZED = 0x1  # CO_OPTIMIZED: the code of a function


def functions(module: str) -> list[FunctionType]:
    """Return the module's functions and methods, also those that a decorator has wrapped."""
    file = str(sys.modules[module].__file__)
    found = [one for one in gc.get_objects() if isinstance(one, FunctionType) and one.__code__.co_filename == file]
    return [one for one in found if "<locals>" not in one.__code__.co_qualname]


FUNCTIONS: dict[str, list[FunctionType]] = {}


def become_plain() -> None:
    """Take the switches out again."""
    FUNCTIONS.update({module: functions(module) for module in FIRST})
    for module in FIRST:
        become(module, None)


def become(module: str, only: int | None) -> None:
    """Give the module's functions the code with this mistake in it."""
    code = code_of(module, only)
    for function in FUNCTIONS[module]:
        function.__code__ = code[function.__code__.co_qualname]


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads the modules of the core with the switches in them."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Take the modules of the core."""
        del path, target
        if not name.startswith(PACKAGE + "."):
            return None
        file = Path(*name.split(".")).with_suffix(".py").resolve()
        return importlib.util.spec_from_file_location(name, file, loader=self) if file.exists() else None

    def exec_module(self, module: ModuleType) -> None:
        """Compile with the switches, and run."""
        file = Path(str(module.__file__))
        code: CodeType = compile(mutated(module.__name__, file.read_text()), str(file), "exec")
        setattr(module, SWITCH, SWITCHES)
        setattr(module, OTHER, other_member)
        exec(code, vars(module))  # noqa: S102 - it is our own core


def install() -> None:
    """From now on the core is loaded with the switches in it; all of it, also what no test has asked for."""
    assert not any(name.startswith(PACKAGE + ".") for name in sys.modules), "the core is loaded already"
    sys.meta_path.insert(0, Finder())
    for module in pkgutil.iter_modules([PACKAGE.replace(".", "/")], PACKAGE + "."):
        importlib.import_module(module.name)
