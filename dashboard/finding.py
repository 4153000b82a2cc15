"""The views of requests: the search, and one request in full."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Flask, render_template, request
from werkzeug.exceptions import NotFound

from dashboard import rows, search
from dashboard.asking import Unclear
from dashboard.lookup import Lookups
from turnwise.failed import COLUMNS, read
from turnwise.removed import removed_among

_ONE = f"SELECT {rows.SERVED} FROM requests WHERE client = %s AND counter = %s"  # noqa: S608
_FAILED = f"SELECT {COLUMNS} FROM failures WHERE client = %s AND counter = %s"  # noqa: S608


class Finding:
    """Answers searches from the database."""

    def __init__(self, app: Flask, lookups: Lookups) -> None:
        self._lookups = lookups
        app.add_url_rule("/requests", "search", self.search)
        app.add_url_rule("/requests/<client>/<int:counter>", "request", self.one)

    def search(self) -> Any:
        """Find requests; the address holds the search."""
        try:
            query = search.parse(request.args)
            with self._lookups.cursor() as cursor:
                page = search.find(cursor, query, request.args.get("before", ""))
        except Unclear as error:
            html = render_template(
                "search.html", view="search", form=request.args, problem=str(error)
            )
            return html, HTTPStatus.BAD_REQUEST
        more = query.address(before=page.more) if page.more else None
        return render_template(
            "search.html", view="search", form=request.args, page=page, query=query, more=more
        )

    def one(self, client: str, counter: int) -> Any:
        """Show one request, served or not."""
        try:
            search.parse({"client": client, "first": str(counter)})
        except Unclear as error:
            raise NotFound(str(error)) from None
        with self._lookups.connection() as connection, connection.cursor() as cursor:
            cursor.execute(_ONE, (client, counter))
            served = [rows.served(row) for row in cursor.fetchall()]
            cursor.execute(_FAILED, (client, counter))
            failed = [read(row) for row in cursor.fetchall()]
            is_removed = not served and bool(removed_among(connection, [(client, counter)]))
        html = render_template(
            "request.html",
            view="search",
            client=client,
            counter=counter,
            served=served[0] if served else None,
            failed=failed[0] if failed and not served and not is_removed else None,
            is_removed=is_removed,
        )
        is_known = served or failed or is_removed
        return html, HTTPStatus.OK if is_known else HTTPStatus.NOT_FOUND
