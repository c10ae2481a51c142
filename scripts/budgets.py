"""Holds the size budgets: file 300 lines, family card 120, function 60, seven parameters; public functions annotated.

Verbs of the command line may have more parameters: those are their options.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILE, CARD, FUNCTION, PARAMETERS = 300, 120, 60, 7


def problems(path: Path) -> Iterator[str]:
    """One line per broken budget of a file."""
    source = path.read_text(encoding="utf-8")
    name, lines = path.relative_to(ROOT), source.count("\n")
    limit = CARD if path.parent.name == "families" else FILE
    if lines > limit:
        yield f"{name}: {lines} lines, at most {limit}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            most = 99 if path.parent.name == "cli" else PARAMETERS
            yield from (f"{name}:{node.lineno}: {node.name} {what}" for what in broken(node, most))


def broken(node: ast.FunctionDef | ast.AsyncFunctionDef, most: int) -> Iterator[str]:
    """What is wrong with one function."""
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    if length > FUNCTION:
        yield f"has {length} lines, at most {FUNCTION}"
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    arguments = [argument for argument in arguments if argument.arg not in ("self", "cls")]
    if len(arguments) > most:
        yield f"has {len(arguments)} parameters, at most {most}"
    if node.name.startswith("_"):
        return
    bare = [argument.arg for argument in arguments if argument.annotation is None]
    if node.returns is None or bare:
        yield f"is public and lacks annotations: {', '.join(bare) or 'its result'}"


def main() -> None:
    """Check every module of the package; exit 1 if a budget is broken."""
    found = [problem for path in sorted((ROOT / "mezzotint").rglob("*.py")) for problem in problems(path)]
    print("\n".join(found) if found else "budgets: kept")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
