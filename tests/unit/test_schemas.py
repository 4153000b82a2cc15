"""The published schemas, checked against the code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from turnwise.errors import InvalidRequest
from turnwise.limits import MAX_MESSAGE_BYTES
from turnwise.message import CONTENT_TYPE, MAX_COUNTER, TYPE, Request
from turnwise.topology import Topology

SCHEMAS = Path(__file__).parent.parent.parent / "docs/schemas"
SCHEMA = json.loads((SCHEMAS / "request.schema.json").read_text())
ASYNCAPI = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text())
VALID = SCHEMA["examples"][0]


def accepted(body: dict[str, Any]) -> bool:
    try:
        Request.decode(json.dumps(body).encode())
    except InvalidRequest:
        return False
    return True


def described(body: dict[str, Any]) -> bool:
    return bool(Draft202012Validator(SCHEMA).is_valid(body))


def test_the_schema_is_one_and_its_example_is_a_request() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert described(VALID)
    assert accepted(VALID)


# JSON Schema cannot express lone surrogates, bytes or nonexistent dates.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=70)
changes = st.one_of(
    st.tuples(st.just("client"), st.one_of(texts, st.integers(), st.none())),
    st.tuples(
        st.just("counter"),
        st.one_of(
            st.integers(-2, 3),
            st.sampled_from([MAX_COUNTER, MAX_COUNTER + 1, True, 1.5, "1", None]),
            st.integers(),
        ),
    ),
    st.tuples(st.just("message"), st.one_of(texts, st.integers(), st.booleans(), st.none())),
    st.tuples(
        st.just("sent_at"),
        st.one_of(
            texts,
            st.datetimes().map(lambda time: f"{time.isoformat()}Z"),
            st.sampled_from(["2026-01-31T24:00:00Z", "2026-01-31 10:00:00Z", 7, None]),
        ).filter(lambda value: not (isinstance(value, str) and value < "1970")),
    ),
    st.tuples(texts.filter(lambda name: name not in VALID), st.none()),
)


@given(st.lists(changes, max_size=2), st.sets(st.sampled_from(sorted(VALID)), max_size=1))
def test_the_schema_describes_what_is_accepted(
    changed: list[tuple[str, Any]], missing: set[str]
) -> None:
    body = {**VALID, **dict(changed)}
    for name in missing:
        del body[name]
    assert described(body) == accepted(body)


def test_the_longest_message_is_the_same() -> None:
    assert SCHEMA["properties"]["message"]["maxLength"] == MAX_MESSAGE_BYTES


def test_the_channels_are_the_topology() -> None:
    topology = Topology()
    channels = ASYNCAPI["channels"]
    assert channels["requests"]["bindings"]["amqp"]["exchange"]["name"] == topology.exchange
    assert channels["queue"]["bindings"]["amqp"]["queue"]["name"] == topology.queue
    assert channels["dead"]["bindings"]["amqp"]["queue"]["name"] == topology.dead


def test_the_message_is_what_the_producer_sends() -> None:
    message = ASYNCAPI["components"]["messages"]["request"]
    assert message["contentType"] == ASYNCAPI["defaultContentType"] == CONTENT_TYPE
    assert message["bindings"]["amqp"]["messageType"] == TYPE
    assert (SCHEMAS / message["payload"]["schema"]["$ref"]).exists()
