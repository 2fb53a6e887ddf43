"""What `myserver dev` puts around an application, in the server: loaded only there.

Applications never import this package.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from myserver.develop import terminal


def load(
    app: str, find: Callable[[str], Callable[..., object]], options: str
) -> Callable[..., object]:
    """The application `app`, with what helps in development around it.

    Args:
        app: MODULE, MODULE:CALLABLE or a .py file, as the server knows them; also a manage.py.
        find: imports an application and returns it.
        options: of the command, as JSON: an object of `public` and `live`.

    Returns:
        The application. Where it cannot be loaded, for whatever reason, one that shows why. Raises
        nothing.
    """
    from myserver.develop import page, project
    from myserver.develop.application import Application

    given: dict[str, Any] = json.loads(options)
    start = time.monotonic()
    terminal.restore()
    found: Callable[..., object] | page.Fault
    try:
        found = project.load(app, find, is_public=given["public"])
        terminal.say(f"loaded {app} in {time.monotonic() - start:.2f} s")
    except BaseException as error:  # also SystemExit: the developer is to see it
        found = page.Fault(error)
        terminal.say(f"{app} cannot be loaded: {found.title}", "red")
        terminal.block(found.text)
    return Application(found, given["public"], given["live"])
