"""Every module is reached by something a user can run or import: a verb, a recipe, `mezzotint.load`, an entry point."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "mezzotint"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
DOORS = [
    "mezzotint",
    "mezzotint.cli.main",
    "mezzotint.extending",
    "mezzotint.testing",
    *(name for name in MODULES if name.endswith(".__main__")),
]
"""What people run or import by name; everything else has to be imported by one of these, at once or when it is used."""
WAITING = {"mezzotint.denoisers.vision", "mezzotint.denoisers.vision.llada_v_projector"}
"""Not reached, and why: its docstring."""


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All of a module but what only type checkers read."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from statements(child)


def named(path: Path) -> Iterator[str]:
    """Modules that a module imports, inside functions too, or names in a string, as verbs, recipes and workers are."""
    for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(r"[\w.]+(:\w+)?", node.value)
        ):
            name = node.value.partition(":")[0]
            yield from (name, f"mezzotint.recipes.{name}")


def reached(doors: list[str]) -> set[str]:
    seen: set[str] = set()
    waiting = list(doors)
    while waiting:
        name = waiting.pop()
        if name in seen or name not in MODULES:
            continue
        seen.add(name)
        parts = name.split(".")
        waiting += [".".join(parts[:count]) for count in range(1, len(parts))]
        waiting += named(MODULES[name])
    return seen


def test_no_module_is_reached_by_tests_alone():
    assert set(MODULES) - reached(DOORS) == WAITING
    # the graph is no accident of strings: without the verbs little is left
    assert len(reached(["mezzotint.errors"])) < 5
