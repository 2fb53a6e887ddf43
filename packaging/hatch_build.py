"""The build hook of hatchling: what goes into wheels and into the sdist.

The program is built by the Makefile and by nothing else. A wheel has the launcher as a script and the
engine beside the Python package; the sdist has the sources of the C libraries in `vendor/`.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NEEDED = (
    "To build myserver from source takes make, a C compiler and Python's headers and shared library "
    "(Debian, Ubuntu: build-essential python3-dev; Fedora, RHEL: gcc make python3-devel)."
)


class MakeHook(BuildHookInterface):
    """Calls make, and says what it has made."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it packs: `version` is "editable" for `pip install -e`."""
        if version == "editable":
            raise RuntimeError("a checkout is not installed: run build/myserver, which make builds")
        if self.target_name == "sdist":
            vendor = Path(self.root, "build", "vendor")
            self.run(f"{self.root}/packaging/vendor.sh", str(vendor), sys.executable)
            build_data["force_include"][str(vendor)] = "vendor"
            return
        made = Path(self.root, "build", "wheel", sysconfig.get_python_version())
        jobs = f"-j{os.cpu_count()}"
        self.run("make", jobs, f"PYTHON={sys.executable}", f"WHEEL={made}", "wheel-files")
        python = f"cp{sysconfig.get_config_var('py_version_nodot')}"
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"{python}-{python}-{platform}"
        build_data["pure_python"] = False
        build_data["shared_scripts"][str(made / "myserver")] = "myserver"
        (engine,) = made.glob("engine-*.so")
        build_data["force_include"][str(engine)] = f"myserver/{engine.name}"

    def run(self, *command: str) -> None:
        """In the source tree, without the settings of a make that has called us."""
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
        try:
            subprocess.run(command, cwd=self.root, env=env, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            why = error.strerror if isinstance(error, OSError) else "it has failed, and says why above"
            sys.exit(f"{Path(command[0]).name}: {why}. {NEEDED}")
