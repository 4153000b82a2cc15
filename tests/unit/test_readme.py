"""The README names only what exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from lab.harness.commands import BIN

ROOT = Path(__file__).parent.parent.parent


README = (ROOT / "README.md").read_text()


# Every page, against every target of a link in it.
LINKS = [
    (page.relative_to(ROOT), link)
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
]


def test_every_command_of_the_readmes_table_exists() -> None:
    commands = re.findall(r"`((?:producer|worker|lab) [^`]+)`", README)
    assert len(commands) >= 8
    for command in commands:
        words = [word for word in command.split("<")[0].split() if not word.startswith("--")]
        words = [word for word in words if word not in {"hello", "500"}]
        options = [word for word in command.split() if word.startswith("--")]
        helped = subprocess.run(
            [BIN / words[0], *words[1:], "--help"], capture_output=True, text=True, check=True
        ).stdout
        assert all(option in helped for option in options), command


def test_every_target_of_the_readme_is_one_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?:`|    )make ([a-z][a-z-]*)", README))
    assert targets >= {"demo", "test"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize(("page", "link"), LINKS, ids=[f"{p}:{link}" for p, link in LINKS])
def test_links_lead_somewhere(page: Path, link: str) -> None:
    assert (ROOT / page.parent / link).exists()
