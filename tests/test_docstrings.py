"""Docstrings are the API reference: whatever is public has one, and it says shapes and errors.

A method that a protocol or a base class of the package already documents may rely on that text.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import mezzotint

PACKAGE = Path(mezzotint.__file__).parent
TENSOR = re.compile(r"\b(Tensor|NDArray|Floats|Ints)\b")
SHAPE = re.compile(
    r"\b(Float|Long|Bool|Int|Byte|Uint)\d*\["  # Float[B, L, V]
    r"|\b[Ss]calars?\b|\bany shape\b|\bbroadcast\b"  # no fixed shape
    r"|\b[Ss]hapes? (and dtypes? )?(of|pass)\b"  # that of another tensor
    r"|\bstate dict\b|\bby name\b"  # weights: one shape per name
)
DEF = (ast.FunctionDef, ast.AsyncFunctionDef)
Def = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Documented:
    """A public class or function and the texts a reader of it sees."""

    where: str
    node: ast.ClassDef | Def
    texts: tuple[str, ...]
    """Its own docstring, or that of a class for its call; those it inherits; its class's."""

    @property
    def touches_tensors(self) -> bool:
        """Whether a tensor or an array is among its parameters or results."""
        if isinstance(self.node, ast.ClassDef):
            return False
        arguments = [*self.node.args.posonlyargs, *self.node.args.args, *self.node.args.kwonlyargs]
        notes = [argument.annotation for argument in arguments] + [self.node.returns]
        return any(note is not None and TENSOR.search(ast.unparse(note)) for note in notes)


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text(encoding="utf-8"))


def public() -> Iterator[Documented]:
    """Every public function, class and method of the package."""
    inherited = Inherited()
    for name, module in modules():
        for node in module.body:
            if not isinstance(node, (ast.ClassDef, *DEF)) or node.name[0] == "_" or overloads(node):
                continue
            own = ast.get_docstring(node) or ""
            yield Documented(f"{name}:{node.lineno}: {node.name}", node, (own,))
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if not isinstance(method, DEF) or (method.name[0] == "_" and method.name != "__call__"):
                    continue
                if not overloads(method):
                    where = f"{name}:{method.lineno}: {node.name}.{method.name}"
                    # a call, and a module's forward, is what the class is for
                    text = own if method.name in ("__call__", "forward") else ""
                    texts = (ast.get_docstring(method) or text, inherited.text(node, method.name), own)
                    yield Documented(where, method, texts)


def overloads(node: ast.ClassDef | Def) -> bool:
    return any(ast.unparse(mark).endswith("overload") for mark in node.decorator_list)


class Inherited:
    """What bases of a class, and protocols of the package, say of a method."""

    def __init__(self) -> None:
        self.classes = {
            node.name: node for _, module in modules() for node in module.body if isinstance(node, ast.ClassDef)
        }

    def text(self, node: ast.ClassDef, method: str) -> str:
        """The docstrings of the method above a class; a protocol that is met without being named counts too."""
        protocols = [other for other in self.classes.values() if "Protocol" in self.bases(other)]
        special = method in ("__call__", "forward")
        above = self.above(node) + ([] if special else [other for other in protocols if other is not node])
        found = [item for other in above for item in other.body if isinstance(item, DEF) and item.name == method]
        return "\n".join(ast.get_docstring(item) or "" for item in found)

    def above(self, node: ast.ClassDef) -> list[ast.ClassDef]:
        """The package's classes that one is made of, the nearest first."""
        direct = [self.classes[base] for base in self.bases(node) if base in self.classes and base != node.name]
        return direct + [other for base in direct for other in self.above(base)]

    def bases(self, node: ast.ClassDef) -> list[str]:
        """The last names of a class's bases."""
        return [ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases]


def raised(node: ast.AST, errors: set[str]) -> set[str]:
    """The package's errors that a function's own body raises, not those of functions inside it."""
    found: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*DEF, ast.Lambda, ast.ClassDef)):
            continue
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            name = ast.unparse(child.exc.func).split(".")[-1]
            found |= {name} & errors
        found |= raised(child, errors)
    return found


@pytest.fixture(scope="module")
def api() -> list[Documented]:
    return list(public())


def test_every_public_name_has_a_docstring(api):
    bare = [item.where for item in api if not any(text.strip() for text in item.texts[:2])]
    assert not bare, "\n".join(bare)


def test_every_function_of_tensors_names_their_shapes(api):
    silent = [item.where for item in api if item.touches_tensors and not any(map(SHAPE.search, item.texts))]
    assert not silent, "\n".join(silent)


def test_every_function_that_raises_says_so(api):
    tree = ast.parse((PACKAGE / "errors.py").read_text(encoding="utf-8"))
    errors = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    silent = []
    for item in api:
        # the docstring of a command line's verb is its help
        if isinstance(item.node, ast.ClassDef) or item.where.startswith("cli/"):
            continue
        text = "\n".join(item.texts)
        missing = [name for name in sorted(raised(item.node, errors)) if "Raises:" not in text or name not in text]
        silent += [f"{item.where} raises {name}" for name in missing]
    assert not silent, "\n".join(silent)


def test_every_module_has_a_docstring():
    bare = [name for name, module in modules() if module.body and not ast.get_docstring(module)]
    assert not bare, "\n".join(bare)
