"""The commands of the program: `myserver NAME ...` is `main(arguments)` of the module NAME here.

Each `main(arguments: list[str]) -> int` takes what stands behind the name, and returns the exit
status. The names and a line of help for each stand in the program's own table (`myserver --help`).
"""

import os
from pathlib import Path


def program() -> str:
    """The path of the program `myserver` that belongs to this package.

    Raises FileNotFoundError, with a sentence, when it is not where it belongs.
    """
    named = os.environ.get("MYSERVER_PROGRAM")
    if named:
        return named
    home = Path(__file__).resolve().parents[2]  # the directory in which the package lies
    # Of a wheel or of `make install`; of `pip install --target`; of a checkout.
    for place in (home / "../../../bin", home / "bin", home / "../build"):
        if os.access(place / "myserver", os.X_OK):
            return str((place / "myserver").resolve())
    raise FileNotFoundError(
        f"the program myserver is not where it belongs to {home}: install it again"
    )
