"""What the page shows of the table outbox: what waits, and who relays."""

from __future__ import annotations

import json

from tests.browser import Browser
from tests.page import page
from tests.pipeline import Pipeline
from tests.relaying import at_work, commit, get


def test_the_page_shows_what_waits_in_the_table_outbox_and_who_relays(
    pipeline: Pipeline, browser: Browser
) -> None:
    pipeline.worker("worker-1")
    address = page(pipeline)
    browser.open(address)
    browser.wait("document.querySelector('#consumers').textContent == '1'")
    # Where no application uses the table, the page does not mention it.
    browser.wait("document.querySelector('#outbox').hidden")
    commit(pipeline, "one", "two")
    browser.wait(f"/^! Table outbox: 2 wait, the oldest for .* no relay is active$/.test({told()})")
    relay = at_work(pipeline, "relay-1")
    browser.wait(f"{told()} == 'Table outbox: nothing waits · relay-1 relays'")
    relay.kill()
    commit(pipeline, "three")
    # Its last sign of life is a minute old.
    pipeline.servers.database.query(
        "UPDATE outbox_relay SET renewed_at = renewed_at - INTERVAL 1 MINUTE", name=pipeline.name
    )
    silent = "1 waits, the oldest for .* · no relay is active: relay-1 was last seen 1 min .* ago"
    browser.wait(f"/{silent}/.test({told()})")
    outbox = json.loads(get(int(address.split(":")[2].strip("/")), "api/state"))["outbox"]
    assert outbox.items() >= {"used": True, "waiting": 1, "relay": "relay-1"}.items()
    assert outbox["seen_seconds"] > 50


def told() -> str:
    """Return JavaScript for the line as it is read, with the marks that the style adds."""
    before = "getComputedStyle({}, '::before').content.replace(/^none$|^\"|\"$/g, '')"
    line, relay = before.format("e"), before.format("e.querySelector('.relay')")
    return (
        f"(e => {line} + e.firstChild.textContent + e.querySelector('.waiting').textContent + ' '"
        f" + {relay} + e.querySelector('.relay').textContent)(document.querySelector('#outbox'))"
    )
