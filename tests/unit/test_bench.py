"""What the bench makes of its rounds."""

from __future__ import annotations

import pytest

from lab.bench.contender import Figures
from lab.bench.lines import CONTENDERS, LINES, Line, contenders, tell


def test_each_line_names_figures_of_contenders() -> None:
    for line in LINES:
        assert contenders([line])
        for figure in (line.figure, line.against):
            assert figure is None or figure[0] in CONTENDERS


@pytest.mark.parametrize(
    ("less_is_better", "target", "stretch", "reached"),
    [
        (False, 2.0, 3.0, "target"),
        (False, 2.0, 2.5, "stretch"),
        (False, 2.6, 3.0, "missed"),
        (True, 2.5, 2.0, "target"),
        (True, 3.0, 2.5, "stretch"),
        (True, 2.0, 1.0, "missed"),
        (False, None, None, ""),
    ],
)
def test_ratios_are_those_within_a_round(
    less_is_better: bool, target: float | None, stretch: float | None, reached: str
) -> None:
    rounds: list[dict[str, Figures]] = [
        {"a": {"x": 10}, "b": {"y": 5}},
        {"a": {"x": 50}, "b": {"y": 20}},
        {"a": {"x": 30}, "b": {"y": 10}},
        {"b": {"y": 1000}},
        {"a": {"x": 1000}},
    ]
    line = Line("item", "label", ("a", "x"), "s", ("b", "y"), target, stretch, less_is_better)
    told = tell(line, rounds)
    assert told
    assert (told.figure.median, told.figure.low, told.figure.high) == (30, 10, 50)
    assert told.ratio is not None
    assert (told.ratio.median, told.ratio.low, told.ratio.high) == (2.5, 2, 3)
    assert told.reached == reached


def test_a_figure_of_zero_has_no_ratio() -> None:
    line = Line("item", "label", ("a", "x"), "s", ("b", "y"), 1.0)
    told = tell(line, [{"a": {"x": 10}, "b": {"y": 0}}])
    assert told
    assert (told.figure.median, told.ratio, told.reached) == (10, None, "")
