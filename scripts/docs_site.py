"""A hook of mkdocs: pages that are not in docs/.

The README, CONTRIBUTING.md and CHANGELOG.md are pages of the site, the records that they name are its files, the
examples are on one page, and every public module of the package has a page in the reference, whose text is its
docstrings.  Links between them hold in the repository and in the site.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
ARXIV = re.compile(r"(?<![\d./])(\d{4}\.\d{5})(?![\d.]\d)")
"""The ids by which docstrings name their sources."""
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def public_modules() -> list[str]:
    """Dotted names of the package's modules that define or describe something."""
    names = []
    for path in sorted((ROOT / "mezzotint").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if any(part[0] == "_" and part != "__init__" for part in parts) or not path.read_text(encoding="utf-8").strip():
            continue
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def page_of(module: str) -> str:
    """The page of a module: a package's is its folder's index."""
    folder = (ROOT / module.replace(".", "/")).is_dir()
    return f"reference/{module.replace('.', '/')}{'/index' if folder else ''}.md"


def navigation(modules: list[str]) -> list[Any]:
    """The reference's part of the menu: one entry per module, packages nested as they are on disk."""
    tree: dict[str, Any] = {}
    for module in modules:
        branch = tree
        for part in module.split("."):
            branch = branch.setdefault(part, {})

    def entries(branch: dict[str, Any], prefix: str) -> list[Any]:
        listed: list[Any] = []
        for name, below in branch.items():
            module = f"{prefix}{name}"
            own = [page_of(module)] if module in modules else []
            listed.append({name: own + entries(below, f"{module}.")} if below else {name: own[0]})
        return listed

    return entries(tree, "")[0]["mezzotint"]


def relinked(text: str, source: str, target: str) -> str:
    """A page's text with its links to files of the repository turned into links of the site.

    Args:
        source: the page's path in the repository.
        target: its path in the site's sources.
    """

    def link(found: re.Match[str]) -> str:
        to = found[2]
        if ":" in to:
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), to))
        inside = {**PAGES, "examples": "examples.md"}.get(path) or path.removeprefix("docs/")
        return f"{found[1]}{posixpath.relpath(inside, posixpath.dirname(target) or '.')}{found[3]}"

    return LINK.sub(link, text)


def examples() -> str:
    """A page of all examples: what each one does, and its source."""
    parts = ["# Examples\n\nEach is run by the tests, as it stands here."]
    for path in sorted((ROOT / "examples").glob("*.py")):
        source = path.read_text(encoding="utf-8").strip()
        parts.append(f'## {path.stem.replace("_", " ").capitalize()}\n\n```python title="{path.name}"\n{source}\n```')
    return "\n\n".join(parts) + "\n"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Append the reference to the menu."""
    assert config.nav is not None
    config.nav.append({"Reference": navigation(public_modules())})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and the records that are not in docs/."""
    for source, target in PAGES.items():
        files.append(File.generated(config, target, content=(ROOT / source).read_text(encoding="utf-8")))
    for record in sorted((ROOT / "benchmarks" / "results").iterdir()):
        files.append(File.generated(config, f"benchmarks/results/{record.name}", abs_src_path=str(record)))
    files.append(File.generated(config, "examples.md", content=examples()))
    for module in public_modules():
        files.append(File.generated(config, page_of(module), content=f"# {module}\n\n::: {module}\n"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository into links of the site."""
    target = page.file.src_uri
    if target.startswith("reference/"):
        return markdown
    sources = {page: source for source, page in PAGES.items()}
    return relinked(markdown, sources.get(target, f"docs/{target}"), target)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make each arXiv id a link, except in code and in links."""
    pieces = re.split(r"(<(pre|code|a)\b.*?</\2>)", html, flags=re.DOTALL)
    # of each match the split yields the whole and the tag's name
    texts, kept = pieces[::3], pieces[1::3]
    linked = [ARXIV.sub(r'<a href="https://arxiv.org/abs/\1">\1</a>', text) for text in texts]
    return "".join(part for pair in zip(linked, [*kept, ""], strict=True) for part in pair)
