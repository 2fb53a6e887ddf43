"""`python -m myserver`: the program, with this Python; the program itself runs its commands by it."""

import importlib
import os
import sys
from pathlib import Path

# Run as a file, sys.path begins with the package itself, whose modules would hide others.
if sys.path and sys.path[0] == os.path.dirname(__file__):
    sys.path[0] = os.path.dirname(sys.path[0])

from myserver import commands  # noqa: E402


def main(arguments: list[str]) -> int:
    """Runs a command, or in place of this process the program. Returns the exit status."""
    name = arguments[0] if arguments else ""
    home = Path(commands.__file__).parent
    if name.isidentifier() and ((home / f"{name}.py").exists() or (home / name).is_dir()):
        command = importlib.import_module(f"myserver.commands.{name}")
        try:
            status = int(command.main(arguments[1:]))
            sys.stdout.flush()
        except BrokenPipeError:  # of who reads: head, or a pager that was left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 128 + 13  # as SIGPIPE ends other programs
        return status
    try:
        program = commands.program()
    except FileNotFoundError as e:
        print(f"myserver: {e}", file=sys.stderr)
        return 2
    if sys.prefix != sys.base_prefix:
        os.environ["MYSERVER_LAUNCH"] = sys.prefix
    os.execv(program, ["myserver", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
