"""MODULE:FUNCTION -> a handler, or one line that says what is wrong with it."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.handler_loading import HandlerNotFound, load

MODULE = """
    import functools

    def serve(request, db): pass
    def takes_one(request): pass
    def takes_three(request, db, more): pass
    def takes_more(request, db, *, more=1): pass
    async def is_async(request, db): pass
    def is_generator(request, db): yield
    class Shop:
        def __call__(self, request, db): pass
        @staticmethod
        def serve(request, db): pass
    shop = Shop()
    partial = functools.partial(takes_three, more=1)
    number = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module in the current folder."""
    name = f"module_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield name
    sys.path[:] = path
    sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "function", ["serve", "takes_more", "shop", "Shop.serve", "partial", "Shop"]
)
def test_any_callable_that_takes_a_request_and_db_is_a_handler(module: str, function: str) -> None:
    if function == "Shop":
        with pytest.raises(HandlerNotFound, match="takes"):
            load(f"{module}:{function}")
    else:
        assert callable(load(f"{module}:{function}"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{}", "write MODULE:FUNCTION"),
        ("{}:", "write MODULE:FUNCTION"),
        ("{}:a-b", "write MODULE:FUNCTION"),
        ("{}:nonesuch", "has no 'nonesuch'"),
        ("{}:number", "not a function but int"),
        ("{}:takes_one", r"takes \(request\)"),
        ("{}:takes_three", r"takes \(request, db, more\)"),
        ("{}:is_async", "is async"),
        ("{}:is_generator", "is a generator"),
        ("nonesuch_module:serve", "there is no module 'nonesuch_module'"),
        ("worker:serve", "one of Turnwise's own packages"),
        ("producer.orders:serve", "one of Turnwise's own packages"),
    ],
)
def test_a_mistake_is_reported_in_one_line(module: str, name: str, said: str) -> None:
    with pytest.raises(HandlerNotFound, match=said) as caught:
        load(name.format(module))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero (.*broken.*py:1)"),
        ("import nonesuch_library", "No module named 'nonesuch_library'"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit", "ends the process"),
        ("from worker import orders", "There is a package 'worker' in"),
    ],
)
def test_a_module_that_cannot_be_imported_is_reported(module: str, code: str, said: str) -> None:
    name = f"broken_{module}"
    Path(f"{name}.py").write_text(code)
    if "worker" in code:
        Path("worker").mkdir()
        Path("worker/__init__.py").write_text("")
    with pytest.raises(HandlerNotFound, match=said):
        load(f"{name}:serve")
