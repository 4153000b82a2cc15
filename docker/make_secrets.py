#!/usr/bin/env python3
"""Create the secrets of docker/compose.yaml in a folder: a password for each account.

    python3 docker/make_secrets.py docker/secrets

Existing files stay. It uses only the standard library, since it runs before anything is set up.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shutil
import sys
from pathlib import Path

BROKER_TAGS = {
    "admin": ["administrator"],
    "producer": [],
    "worker": [],
    "operator": [],
    "dashboard": ["monitoring"],
}
TOKENS = (
    "dashboard-token",
    "dashboard-operator-token",
    "dashboard-session-key",
    "door-token",
)
DATABASE_USERS = ("migrate", "worker", "relay", "dashboard", "operator")


def rabbitmq_hash(password: str) -> str:
    """Hash a password as RabbitMQ keeps it: https://www.rabbitmq.com/docs/passwords."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def make() -> dict[str, str]:
    """Return the content of each file by its name. Passwords need no escaping in a URL or SQL."""
    broker = {user: secrets.token_urlsafe(24) for user in BROKER_TAGS}
    database = {user: secrets.token_urlsafe(24) for user in DATABASE_USERS}
    users = [
        {"name": user, "password_hash": rabbitmq_hash(password), "tags": BROKER_TAGS[user]}
        for user, password in broker.items()
    ]
    return {
        "rabbitmq-users.json": json.dumps({"users": users}, indent=2),
        "mysql-users.sql": "".join(
            f"CREATE USER '{user}'@'%' IDENTIFIED BY '{password}';\n"
            for user, password in database.items()
        ),
        "mysql-root-password": secrets.token_urlsafe(24),
        "admin-password": broker["admin"],
        **{token: secrets.token_urlsafe(24) for token in TOKENS},
        "dashboard-management-url": (
            f"http://dashboard:{broker['dashboard']}@rabbitmq:15672/turnwise"
        ),
        **{
            f"{user}-amqp-url": f"amqp://{user}:{broker[user]}@rabbitmq:5672/turnwise"
            for user in ("producer", "worker", "operator")
        },
        **{
            f"{user}-mysql-url": f"mysql://{user}:{password}@mysql:3306/counter_db"
            for user, password in database.items()
        },
    }


def main(folder: Path) -> None:
    """Write the files, all or none."""
    if folder.exists():
        print(f"{folder} is there already")
        # Tokens depend on nothing else, so newer ones can be added to an older folder.
        for token in TOKENS:
            file = folder / token
            if not file.exists():
                _write(file, secrets.token_urlsafe(24))
                print(f"made {file}")
        return
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    # The folder keeps out other users of this machine. Its files are readable by all, since users
    # in containers have other IDs than yours; each container gets only its own files.
    part.mkdir(mode=0o700)
    for name, content in make().items():
        _write(part / name, content)
    part.rename(folder)
    print(
        f"made {folder}, with dashboard-token for the page, door-token for requests by HTTP, "
        "admin-password for RabbitMQ's UI"
    )


def _write(file: Path, content: str) -> None:
    file.write_text(content + "\n")
    file.chmod(0o644)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
