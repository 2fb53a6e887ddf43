"""Flask with SQLAlchemy and requests, both made at import; with $AT_IMPORT also used there."""

from __future__ import annotations

import os
from typing import Any

import flask
import requests
import sqlalchemy

UPSTREAM = os.environ["UPSTREAM"]
QUERY = sqlalchemy.text("SELECT CAST(:user AS text), pg_backend_pid(), pg_sleep(0.002)")

application = flask.Flask(__name__)
engine = sqlalchemy.create_engine(os.environ["DATABASE"], pool_size=4)
session = requests.Session()


def ask(user: str) -> dict[str, Any]:
    """What the database and the other service say of `user`."""
    with engine.connect() as connection:
        echo, backend, _ = connection.execute(QUERY, {"user": user}).one()
    said = session.get(f"{UPSTREAM}/echo/{user}", timeout=5).text
    return {"echo_database": echo, "backend": backend, "echo_service": said}


if os.environ["AT_IMPORT"]:
    ask("import")


@application.get("/")
def show() -> dict[str, Any]:
    """Both answers."""
    user = flask.request.args.get("user", "nobody")
    return {"user": user, "pid": os.getpid()} | ask(user)
