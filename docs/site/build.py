"""Build the documentation site into ``build/site/html``: ``python -m docs.site.build``.

The pages stay where GitHub shows them: in ``docs``, at the root, beside the code. This program
gathers them into ``build/site/pages``, rewrites their links for the new places, and lets Zensical
build strictly. A broken link, a missing section, a page outside the navigation or an unknown name
of the API is an error.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from os.path import normpath, relpath
from pathlib import Path
from typing import Any

from docs.site.http_api import page as http_api_page

__all__ = ["Site", "SiteError"]

_LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)#\s]+)")
_UNRESOLVED = re.compile(r"\[(?:<code>)?[\w.]+(?:</code>)?\]\[[\w.]*\]")
_PRE = re.compile(r"<pre.*?</pre>", re.DOTALL)
_FENCE = re.compile(r"( *)(`{3,})")
_ITEM = re.compile(r" *(?:[-*]|\d+\.) ")


class SiteError(Exception):
    """The site can't be built from these pages; the message names the page and the fault."""


class Site:
    """The site of one checkout.

    Args:
        root: The folder of the checkout.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._own = root / "docs" / "site"
        self._build = root / "build" / "site"
        self._pages = self._build / "pages"
        self.html = self._build / "html"

    def build(self) -> None:
        """Gather the pages and build the site from them.

        Raises:
            SiteError: A page, a link or a name is wrong.
        """
        shutil.rmtree(self._build, ignore_errors=True)
        self._pages.mkdir(parents=True)
        shutil.copy(self._own / "zensical.toml", self._build)
        for source in self._sources():
            self._add(source)
        self._write("reference/http_api.md", http_api_page())
        self._check_navigation()
        self._run_zensical()
        self._check_names()

    def _sources(self) -> Iterator[Path]:
        """Yield every page and picture."""
        root = self._root
        yield from sorted(root.glob("*.md"))
        yield from sorted((root / "docs").glob("*.md"))
        yield from sorted((root / "docs" / "images").iterdir())
        yield from sorted((root / "migration_guide" / "guide").glob("*.md"))
        yield from sorted((root / "clients").glob("*/README.md"))
        yield root / "lab" / "README.md"
        yield from sorted(path for path in (self._own / "pages").rglob("*") if path.is_file())

    def _place(self, source: Path) -> str:
        """Return the place of ``source`` in the site."""
        if source == self._root / "README.md":
            return "index.md"
        for folder in (self._own / "pages", self._root / "docs"):
            if source.is_relative_to(folder):
                return source.relative_to(folder).as_posix()
        path = source.relative_to(self._root).as_posix()
        return path if source.suffix == ".md" else f"source/{path}.txt"

    def _add(self, source: Path) -> None:
        place = self._place(source)
        if source.suffix == ".md":
            text = source.read_text("utf-8")
            _check_markdown(source, text)
            self._write(place, self._with_links(source, text))
        else:
            target = self._pages / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)

    def _with_links(self, page: Path, text: str) -> str:
        """Return ``text`` with the links of ``page`` as they have to be in the site."""
        here = Path(self._place(page)).parent

        def moved(match: re.Match[str]) -> str:
            target = Path(normpath(page.parent / match[2]))
            if not target.exists():
                raise SiteError(f"{page}: there is no {match[2]}")
            place = self._place(target)
            if place.startswith("source/"):
                self._add_source(target, place)
            return f"{match[1]}{relpath(place, here)}"

        return _LINK.sub(moved, text)

    def _add_source(self, source: Path, place: str) -> None:
        """Add a file of the code, or the names of a folder's files, as plain text."""
        if source.is_dir():
            files = (path for path in sorted(source.rglob("*")) if path.is_file())
            names = (str(path.relative_to(self._root)) for path in files)
            self._write(place, "\n".join(name for name in names if "__pycache__" not in name))
        else:
            self._write(place, source.read_text("utf-8"))

    def _write(self, place: str, text: str) -> None:
        target = self._pages / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")

    def _check_navigation(self) -> None:
        config = tomllib.loads((self._build / "zensical.toml").read_text("utf-8"))
        listed = sorted(_places(config["project"]["nav"]))
        there = sorted(path.relative_to(self._pages).as_posix() for path in _markdown(self._pages))
        for place in {*listed, *there}:
            if (listed.count(place), there.count(place)) != (1, 1):
                raise SiteError(
                    f"{place} is {there.count(place)} times among the pages and "
                    f"{listed.count(place)} times in the navigation, docs/site/zensical.toml"
                )

    def _run_zensical(self) -> None:
        command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
        done = subprocess.run(
            [*command, "-f", str(self._build / "zensical.toml")],
            cwd=self._root,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SiteError(f"{done.stdout}{done.stderr}")

    def _check_names(self) -> None:
        """Raise where a name was not resolved: Zensical leaves some as they stand, as text."""
        for page in sorted(self.html.rglob("*.html")):
            if found := _UNRESOLVED.search(_PRE.sub("", page.read_text("utf-8"))):
                raise SiteError(f"{page}: {found[0]} is no name of the API")


def _markdown(folder: Path) -> Iterator[Path]:
    return folder.rglob("*.md")


def _places(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for member in entry.values() if isinstance(entry, dict) else entry:
            yield from _places(member)


def _check_markdown(page: Path, text: str) -> None:
    """Raise where Python-Markdown sees other paragraphs and lists than GitHub does."""
    fence, before = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        opened = _FENCE.match(line)
        if opened and not (fence and opened[2] != fence):
            fence = "" if fence else opened[2]
        if opened or not fence:
            indented = len(line) - len(line.lstrip())
            begins = bool(opened) or not before.strip() or bool(_ITEM.match(line))
            if begins and line.strip() and indented % 4:
                raise SiteError(f"{page}:{number}: indent within a list by four spaces")
            after_prose = before[:1].strip() and before[0] != "#" and not _ITEM.match(before)
            if _ITEM.match(line) and after_prose:
                raise SiteError(f"{page}:{number}: a list begins after an empty line")
        before = line


def main() -> int:
    """Build the site of this checkout; return the exit status."""
    site = Site(Path(__file__).resolve().parents[2])
    try:
        site.build()
    except SiteError as error:
        sys.stderr.write(f"error: the documentation site: {error}\n")
        return 1
    sys.stdout.write(f"The documentation site: {site.html}/index.html\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
