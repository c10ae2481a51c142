"""What `import mezzotint` promises: every name, signature and field, as tests/public_api.txt has it.

A change here is a change for users: rewrite the file with `python tests/test_public_api.py`, and tell CHANGELOG.md.
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import mezzotint

SNAPSHOT = Path(__file__).parent / "public_api.txt"


def lines() -> Iterator[str]:
    """A line per name of `mezzotint.__all__`, per public method and per field of its classes."""
    for name in sorted(mezzotint.__all__):
        thing = getattr(mezzotint, name)
        if not (inspect.isclass(thing) or inspect.isroutine(thing)):
            yield f"{name}: {type(thing).__name__}"
            continue
        tree = ast.parse(Path(inspect.getfile(thing)).read_text(encoding="utf-8"))
        node = next(node for node in tree.body if getattr(node, "name", None) == thing.__name__)
        yield from described(node)


def described(node: ast.ClassDef | ast.FunctionDef, indent: str = "") -> Iterator[str]:
    """A definition without its body, and the public members of a class."""
    if isinstance(node, ast.FunctionDef):
        marks = "".join(f"@{ast.unparse(mark)} " for mark in node.decorator_list)
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        yield f"{indent}{marks}{node.name}({ast.unparse(node.args)}){returns}"
        return
    bases = ", ".join(map(ast.unparse, node.bases))
    yield f"class {node.name}({bases})" if bases else f"class {node.name}"
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
            yield from described(member, indent="    ")
        elif isinstance(member, ast.AnnAssign) and not ast.unparse(member.target).startswith("_"):
            yield f"    {ast.unparse(member)}"


def test_the_public_interface_is_as_recorded():
    assert "\n".join(lines()) + "\n" == SNAPSHOT.read_text(encoding="utf-8")


def test_every_public_name_is_documented():
    names = [name for name in mezzotint.__all__ if not name.startswith("__")]
    assert [name for name in names if not inspect.getdoc(getattr(mezzotint, name))] == []


if __name__ == "__main__":
    SNAPSHOT.write_text("\n".join(lines()) + "\n", encoding="utf-8")
