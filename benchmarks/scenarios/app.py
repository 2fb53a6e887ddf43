"""app: one's own project: `run.py --app mysite.wsgi --url /`."""

import os
from pathlib import Path

from model import ALL_SERVERS, App, Case, Load, Plot, Scenario
from services import Services

SETTINGS = {"wsgi": "", "asgi": "", "url": "/"}  # set by run.py


def scenario(services: Services, quick: bool) -> Scenario:
    """The address that is asked for; the environment is the caller's."""
    wsgi = SETTINGS["wsgi"] if ":" in SETTINGS["wsgi"] else SETTINGS["wsgi"] + ":application"
    app = App(wsgi, SETTINGS["asgi"] or None, Path.cwd(), dict(os.environ))
    load = Load(SETTINGS["url"], (SETTINGS["url"],), 50)
    cases = [
        Case(f"{processes} x {threads}", app, processes, threads, [load],
             ("in-process", *ALL_SERVERS), checks=[SETTINGS["url"]])
        for processes, threads in ([(2, 1)] if quick else [(2, 1), (2, 10)])
    ]  # fmt: skip
    plots = [Plot(cases[0].name, load.name, "rps", f"{wsgi.partition(':')[0]}: {load.name}")]
    return Scenario(f"{wsgi}, {load.name}", cases, plots, seconds=2, rounds=3)
