"""The written documentation leads somewhere: links, anchors and the files that it and the docstrings name exist.

`make docs` builds the site strictly, which finds more; this needs nothing but the sources.
"""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"(?<![\w./*<-])((?:[a-z_0-9]+/)+[a-z_0-9]+\.(?:py|md|cpp|hpp|toml))\b")
CLASS = re.compile(r"`(?:[a-z_]+\.)*([A-Z][a-z0-9]+\w*)(?:\([^`]*\))?`")
HOMES = ("", "mezzotint", "tests", "docs")
"""Where a path that a text names may begin."""


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"\s+", "-", heading) for heading in plain}


def exists(path: str, beside: Path) -> bool:
    homes = [*(ROOT / home for home in HOMES), beside, *beside.parents]
    return any((home / path).exists() for home in homes if home.is_relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    dead = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if ":" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page):
    if page.name == "CHANGELOG.md":
        pytest.skip("tells of files as they were")
    named = NAMED.findall(page.read_text(encoding="utf-8"))
    assert [path for path in named if not exists(path, page.parent)] == []


def docstrings(node):
    """Every string that stands by itself: of modules, classes and functions, and under fields."""
    found = [part.value for part in ast.walk(node) if isinstance(part, ast.Expr)]
    return [part.value for part in found if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def test_files_that_docstrings_name_exist():
    gone = []
    for source in sorted((ROOT / "mezzotint").rglob("*.py")):
        for text in docstrings(ast.parse(source.read_text(encoding="utf-8"))):
            named = [path for path in NAMED.findall(text) if not exists(path, source.parent)]
            gone += [f"{source.relative_to(ROOT)}: {path}" for path in named]
    assert gone == []


def test_classes_that_pages_and_docstrings_name_exist():
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "mezzotint").rglob("*.py")}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    known = {word for node in nodes for word in (getattr(node, "name", None), getattr(node, "id", None)) if word}
    texts = [(path, text) for path, tree in trees.items() for text in docstrings(tree)]
    # what a decision weighed may be others', and the changelog tells of what was
    written = [page for page in PAGES if page.parent.name != "decisions" and page.name != "CHANGELOG.md"]
    texts += [(page, page.read_text(encoding="utf-8")) for page in written]
    gone = [f"{path.relative_to(ROOT)}: {name}" for path, text in texts for name in CLASS.findall(text)]
    assert [name for name in gone if name.split(": ")[1] not in known | {"None"}] == []


def test_the_map_of_the_house_has_every_room():
    map_of_house = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = [path.name if path.suffix else f"{path.name}/" for path in (ROOT / "mezzotint").iterdir()]
    rooms = [room for room in rooms if room[0] != "_" and room not in ("assets/", "py.typed")]
    assert [room for room in rooms if f"`{room}`" not in map_of_house] == []


def test_every_page_is_in_the_menu():
    def pages(entry):
        if isinstance(entry, str):
            return {entry}
        return set().union(*map(pages, entry.values() if isinstance(entry, dict) else entry))

    menu = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    written = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert written <= menu, written - menu
    assert {page for page in menu - written if not (ROOT / page).exists()} == {"index.md", "examples.md"}
