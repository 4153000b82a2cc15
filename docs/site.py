"""How the site is made of files that read well in the repository too: the README is its home."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

README = Path(__file__).parent.parent / "README.md"

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])+)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make the README the home page; its links start from the folder above."""
    text = _LINK.sub(_from_docs, README.read_text())
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leave the words of a link to what is in the repository but not on the site."""
    known = {Path(config.docs_dir, file.src_uri).resolve() for file in files}
    here = Path(config.docs_dir, page.file.src_uri).parent

    def kept(link: re.Match[str]) -> str:
        mark, words, target, _ = link.groups()
        outside = not re.match(r"[a-z]+:", target) and (here / target).resolve() not in known
        return words if outside and not mark else link[0]

    return _LINK.sub(kept, markdown)


def _from_docs(link: re.Match[str]) -> str:
    mark, words, target, anchor = link.groups()
    if re.match(r"[a-z]+:", target):
        return link[0]
    target = target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}"
    return f"{mark}[{words}]({target}{anchor or ''})"
