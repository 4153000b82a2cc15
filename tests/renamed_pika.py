"""A pika whose internals have changed: ``python -m tests.renamed_pika NAME COMMAND ...``.

Every occurrence of NAME in its sources is renamed, as a later release might do.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType


class _Loader(SourceFileLoader):
    """Loads a module from its changed source, ignoring compiled files."""

    renamed = 0
    name_of_old = ""

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        path = self.get_filename(fullname)
        source = self.get_data(path).decode()
        changed, count = re.subn(rf"\b{self.name_of_old}\b", f"{self.name_of_old}_now", source)
        _Loader.renamed += count
        return compile(changed, path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of pika."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "pika":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.origin is None:
            return spec
        loader = _Loader(fullname, spec.origin)
        return importlib.util.spec_from_file_location(
            fullname,
            spec.origin,
            loader=loader,
            submodule_search_locations=spec.submodule_search_locations,
        )


if __name__ == "__main__":
    _Loader.name_of_old, command, *sys.argv[1:] = sys.argv[1:]
    sys.meta_path.insert(0, _Finder())
    main = importlib.import_module(f"{command}.cli").main
    importlib.import_module("turnwise.connection")
    assert _Loader.renamed > 1, f"pika has no {_Loader.name_of_old}"
    main(prog_name=command)
