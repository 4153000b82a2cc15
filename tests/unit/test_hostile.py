"""Hostile messages: none of them is a request."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from lab.harness.hostile import hostile
from turnwise.errors import InvalidRequest
from turnwise.message import Request


@pytest.mark.parametrize("seed", range(3))
def test_no_hostile_message_passes_for_a_request(seed: int) -> None:
    fields: Counter[str] = Counter()
    for body, properties in itertools.islice(hostile(random.Random(seed)), 3000):
        with pytest.raises(InvalidRequest) as refused:
            Request.decode(body, properties)
        fields[refused.value.field] += 1
    assert fields.keys() >= {"body", "client", "counter", "message", "sent_at", "content_type"}
