"""`python manage.py dev`: Django's command for `myserver dev`; add "myserver" to INSTALLED_APPS."""

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand

from myserver.commands import dev

# What Django gives to every command, with the number of values behind each. It has acted on the
# settings and the path already.
_OF_DJANGO = {
    "--settings": 1,
    "--verbosity": 1,
    "-v": 1,
    "--traceback": 0,
    "--force-color": 0,
    "--skip-checks": 0,
    "--no-color": 0,
}


class Command(BaseCommand):  # type: ignore[misc]
    """Takes the place of this process: the server loads the project itself."""

    help = "Serves the project for development: `manage.py dev --help` lists the options."

    def run_from_argv(self, argv: list[str]) -> None:
        """As Django calls it: `argv` is manage.py, dev and what stands behind."""
        arguments: list[str] = []
        rest = iter(argv[2:])
        for argument in rest:
            name, equals, _ = argument.partition("=")
            if name not in _OF_DJANGO:
                arguments.append(argument)
            elif _OF_DJANGO[name] and not equals:
                next(rest, None)
            if name == "--no-color":
                os.environ["NO_COLOR"] = "1"
        sys.exit(dev.main(arguments, manage=os.path.abspath(argv[0])))

    def handle(self, *args: Any, **options: Any) -> None:
        """For call_command, whose caller goes on."""
        raise NotImplementedError("dev takes the place of the process: run `python manage.py dev`")
