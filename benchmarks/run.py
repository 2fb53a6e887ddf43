"""Measures servers side by side: `run.py SCENARIO... --servers a,b`; `run.py --help`.

Starts each server anew for every round, one at a time, checks that it answers correctly, warms it,
measures it. Rounds alternate the servers, so that a disturbance of the machine meets all. Only to
127.0.0.1 and unix sockets. Needs nothing but the standard library to start: what else it needs it
installs into a virtualenv of its own (see install.py).
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import bounds
import install
import report
from measure import (
    CpuWatch,
    LoadFailed,
    MemoryWatch,
    apply_load,
    cpu_s,
    memory_mb,
    run_json,
    settle,
    warm,
)
from model import HERE, ROOT, Case, Load, Scenario
from scenarios import app as app_scenario
from servers import SERVERS, Myserver, Server, StartFailed, Unsupported, make, masked
from services import Missing, Services, build_tools, idle_clients, slow_clients

# In this order by `all`; a new file of benchmarks/scenarios gets its name here.
SCENARIOS = (
    "hello",
    "proxied",
    "shop",
    "upstream",
    "ramp",
    "mixed",
    "order",
    "slowclients",
    "bodies",
    "static",
    "reload",
    "scale",
    "start",
    "observe",
    "memory",
)
ALONE = ("memory",)  # they measure in a way of their own
IN_PROCESS, OURS = "in-process", "myserver"
QUICK_S = 10  # with --quick: after so long a scenario measures no further peers
README_PYTHON = "3.11"  # what the tables of README.md were measured with


@contextmanager
def reload_during(load: Load, server: Server) -> Iterator[None]:
    """Around a measurement, for loads that want a reload."""
    timer = threading.Timer(load.reload_after_s, server.reload)
    if load.reload_after_s:
        timer.start()
    yield
    timer.cancel()


def turned(things: list[Any], number: int) -> list[Any]:
    """Another one is the first in each round."""
    first = number % max(1, len(things))
    return things[first:] + things[:first]


class Run:
    """One scenario: its samples, and what went wrong."""

    def __init__(self, scenario: Scenario, venv: Path, rounds: int = 0, seconds: float = 0) -> None:
        """`rounds` and `seconds` of the command line, for all; 0: as the scenario says."""
        self.scenario = scenario
        self.venv = venv
        self.rounds = rounds
        self.seconds = seconds
        self.peers_until = math.inf  # when it is over, only ours is measured
        self.left_out: dict[str, list[str]] = {}  # case to servers that there was no time for
        self.samples: list[dict[str, Any]] = []
        self.failures: dict[tuple[str, str], str] = {}  # case and server to reason
        self.unsupported: dict[tuple[str, str], str] = {}
        self.bodies: dict[tuple[int, str], bytes | None] = {}

    def add(self, case: Case, load: Load, server: str, number: int, **values: Any) -> None:
        """Notes one sample."""
        sample = {"case": case.name, "load": load.name, "server": server, "round": number}
        self.samples.append(sample | values)

    def in_process(self, case: Case, *arguments: str) -> list[str]:
        """The command that calls the application without a server."""
        python = str(self.venv / "bin" / "python")
        return [python, str(HERE / "in_process.py"), arguments[0], case.app.wsgi, *arguments[1:]]

    def environment(self, case: Case) -> dict[str, str]:
        """For the in-process runs."""
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(case.app.directory)} | case.app.env

    def expected(self, case: Case, path: str) -> bytes | None:
        """The right body; None where the application itself does not give the same twice."""
        key = (id(case.app), path)
        if key not in self.bodies:
            command = self.in_process(case, "body", path)
            options: dict[str, Any] = {"env": self.environment(case), "cwd": case.app.directory}
            answers = []
            for _ in range(2):
                done = subprocess.run(command, capture_output=True, timeout=60, **options)
                status, _, body = done.stdout.partition(b"\n")
                if status != b"200":
                    raise Missing(f"{case.app.wsgi} {path}: {done.stderr.decode()[-500:]}")
                answers.append(masked(body))
            self.bodies[key] = answers[0] if answers[0] == answers[1] else None
        return self.bodies[key]

    def check(self, case: Case, server: Server) -> None:
        """Every path answers 200 with the right body."""
        for path in case.checks:
            status, body = server.get(path, timeout=15)
            right = self.expected(case, path)
            if status != 200:
                raise StartFailed(f"{path}: status {status}: {server.log_end()}")
            if right is not None and masked(body) != right:
                raise StartFailed(f"{path}: {len(body)} bytes, not the {len(right)} right ones")

    def measure_in_process(self, case: Case, number: int) -> None:
        """The ceiling of the application."""
        load = case.loads[0]
        seconds, warmup_s = self.seconds_of(load), load.steady_s or load.warmup_s
        shape = [str(case.processes), str(case.ceiling_threads), str(warmup_s), str(seconds)]
        command = self.in_process(case, "run", load.paths[0], *shape)
        result = run_json(command, seconds + 60, env=self.environment(case))
        sample = {
            "tool": IN_PROCESS,
            "seconds": seconds,
            "requests": result["count"],
            "rps": result["rate"],
            "cpu_s_per_1000": result["cpu_s"] / result["work"] * 1000,
            "errors": 0,
            "error_kinds": {},
        }
        times = {key: result[f"{key[:-3]}_us"] / 1000 for key in ("p50_ms", "p99_ms", "max_ms")}
        self.add(case, load, IN_PROCESS, number, **sample, **times)

    def measure_load(self, case: Case, load: Load, server: Server, number: int) -> dict[str, Any]:
        """One load on a running server."""
        seconds = self.seconds_of(load)
        starved = warm(load, server.where)
        settle(server.roots + server.proxy_roots)
        watch = MemoryWatch(server.roots)
        if case.watch_memory:
            watch.start()
        with slow_clients(load, server.where, seconds) as slow, idle_clients(load, server) as idle:
            cpu = CpuWatch(server.roots, load.steady_s, seconds)
            before, proxy_before = cpu_s(server.roots), cpu_s(server.proxy_roots)
            if load.steady_s:
                cpu.start()
            with reload_during(load, server):
                sample = apply_load(load, server.where, seconds, number)
            used_s = cpu.end() if load.steady_s else cpu_s(server.roots) - before
            proxy_s = cpu_s(server.proxy_roots) - proxy_before
        answers = sample["rps"] * seconds if load.parts else sample["requests"]
        sample["cpu_s_per_1000"] = used_s / max(1, answers) * 1000
        if any(other.reload_after_s for other in case.loads):
            sample["cpu_total_s"] = used_s
        if case.proxied:
            sample["proxy_cpu_s_per_1000"] = proxy_s / max(1, answers) * 1000
        sample["memory_mb"] = memory_mb(server.roots)
        if case.watch_memory:
            sample["memory_mb"] = max(watch.end(), sample["memory_mb"])
        facts = {"starved": starved, "connections": load.connections, "seconds": seconds}
        sample = facts | sample | slow | idle
        self.add(case, load, server.name, number, **sample)
        return sample

    def measure_server(self, case: Case, name: str, number: int) -> None:
        """Starts, checks, loads, stops."""
        server = make(name, case, self.venv)
        capacity = 1.0
        try:
            server.start(case.checks[0])
            self.check(case, server)
            for load in case.loads:
                if number == 0 or load.every_round or self.rounds:
                    if load.of_capacity:
                        load = replace(load, rate=load.of_capacity * capacity)
                    sample = self.measure_load(case, load, server, number)
                    if not load.rate:
                        capacity = max(sample["rps"], 1)
                    if not sample.get("slow_ready", True):
                        break  # they hold all it has: what follows would show no more
        finally:
            server.stop()

    def visit(self, case: Case, name: str, number: int) -> None:
        """One server in one round; what fails is noted, and not tried again."""
        key = (case.name, name)
        if key in self.failures or key in self.unsupported:
            return
        try:
            if name == IN_PROCESS:
                self.measure_in_process(case, number)
            else:
                self.measure_server(case, name, number)
        except Unsupported as reason:
            self.unsupported[key] = str(reason)
        except (StartFailed, LoadFailed, OSError, subprocess.TimeoutExpired) as reason:
            self.failures[key] = str(reason)
            print(f"    {name}: {reason}", file=sys.stderr)

    def seconds_of(self, load: Load) -> float:
        """How long a load is measured."""
        return self.seconds or load.seconds or self.scenario.seconds

    def rounds_of(self, case: Case) -> int:
        """How many rounds a case has."""
        return self.rounds or case.rounds or self.scenario.rounds

    def meets(self, case: Case, name: str, number: int) -> bool:
        """Whether a server is measured in a round of a case."""
        always = self.rounds or not case.thorough or name in case.thorough
        return name in case.servers and (number == 0 or bool(always))

    def run(self, only: Sequence[str] | None, until: float) -> None:
        """All cases; within a case, or a group of cases, rounds of all servers. After `until` no
        case gets more than one: a slow machine measures less often, and not longer."""
        for _, group in itertools.groupby(self.scenario.cases, lambda c: c.group or c.name):
            cases = list(group)
            rounds = self.rounds_of(cases[0])
            for number in range(rounds):
                if number > 0 and time.monotonic() > until:
                    names = " and ".join(case.name for case in cases)
                    self.scenario.notes.append(f"{names}: {number} of {rounds} rounds")
                    break
                print(f"  {cases[0].name}, round {number + 1} of {rounds}", file=sys.stderr)
                self.run_round(cases, only, number)

    def run_round(self, cases: list[Case], only: Sequence[str] | None, number: int) -> None:
        """One server after the other; each meets all cases of a group before the next."""
        names = list(dict.fromkeys(name for case in cases for name in case.servers))
        for name in turned(names, number):
            for case in turned(cases, number):
                if self.meets(case, name, number) and (not only or name in only):
                    if name == OURS or time.monotonic() < self.peers_until:
                        self.visit(case, name, number)
                    else:
                        self.left_out.setdefault(case.name, []).append(name)


def default_results() -> Path:
    """Where results go: those of other Pythons than the one of README's tables have a directory of
    their own."""
    version = "{}.{}".format(*sys.version_info)
    return HERE / "results" / ("" if version == README_PYTHON else version)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measures servers side by side.")
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)}; or all")
    parser.add_argument("--servers", help="only these, separated by commas")
    parser.add_argument("--rounds", type=int, help="how often each server is measured")
    parser.add_argument("--seconds", type=float, help="how long one load lasts")
    parser.add_argument("--quick", action="store_true", help="fewer cases, one round")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--binary", type=Path, default=ROOT / "build" / "myserver")
    parser.add_argument("--results", type=Path, default=default_results(), help="directory")
    parser.add_argument("--no-plots", action="store_true", help="numbers only")
    parser.add_argument("--note", default="", help="kept with the results")
    own = parser.add_argument_group("a project of your own, in the current directory")
    own.add_argument("--app", help="its WSGI application, such as mysite.wsgi")
    own.add_argument("--asgi", help="its ASGI application, such as mysite.asgi:application")
    own.add_argument("--url", default="/", help="the path to ask for")
    own.add_argument("--requirements", type=Path, help="what it needs, as a file for pip")
    arguments = parser.parse_args()
    if not arguments.scenario and not arguments.app:
        parser.error(f"name a scenario ({', '.join(SCENARIOS)}, all) or an --app")
    if arguments.scenario == ["all"]:
        arguments.scenario = list(SCENARIOS)
    for name in arguments.scenario:
        if name not in SCENARIOS:
            parser.error(f"{name!r} is none of {', '.join(SCENARIOS)}, all")
    for name in (arguments.servers or "").split(","):
        if name and name not in SERVERS and name != IN_PROCESS:
            parser.error(f"{name!r} is none of {', '.join([IN_PROCESS, *SERVERS])}")
    return arguments


def program_python(binary: Path) -> str:
    """The interpreter of the program: it is ours, or there is no fair comparison."""
    if not binary.exists():
        raise Missing(f"{binary} is not built; run make first")
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"Python ([\d.]+)", said.stdout)
    ours = ".".join(map(str, sys.version_info[:3]))
    if not found or found[1] != ours:
        raise Missing(
            f"{binary.name} is built for Python {found[1] if found else '?'}, this is {ours}: run"
            " both with the same, as `make bench` does"
        )
    return install.program_python()


def scenario_of(name: str, services: Services, quick: bool) -> tuple[Any, Scenario]:
    """The module of a scenario and what it wants."""
    module = importlib.import_module(f"scenarios.{name}")
    return module, module.scenario(services, quick)


def run_scenario(name: str, arguments: argparse.Namespace, services: Services) -> dict[str, Any]:
    """Measures one scenario, writes and prints its result."""
    print(f"{name}:", file=sys.stderr)
    begun = time.monotonic()
    module, scenario = scenario_of(name, services, arguments.quick)
    rounds = arguments.rounds or (1 if arguments.quick else 0)
    run = Run(scenario, install.VENV, rounds, arguments.seconds or 0)
    until = math.inf if arguments.rounds else begun + scenario.minutes * 60
    if arguments.quick:
        run.peers_until = time.monotonic() + QUICK_S
    if hasattr(module, "measure"):
        module.measure(run)
    else:
        run.run(arguments.servers.split(",") if arguments.servers else None, until)
    scenario.notes += [
        f"{case}: no time for {', '.join(names)}" for case, names in run.left_out.items()
    ]
    result = report.summarize(name, run, duration_s=time.monotonic() - begun)
    result["machine"] = report.machine()
    result["versions"] = report.versions(install.versions())
    result["not_installed"] = install.failures()
    result["note"] = arguments.note
    if hasattr(module, "extras"):
        result["notes"] += module.extras(result)
    return result


def main() -> int:
    """Runs what was asked for."""
    arguments = parse_arguments()
    services = None
    try:
        Myserver.binary = arguments.binary.absolute()
        install.install(program_python(arguments.binary), arguments.requirements)
        build_tools()
        services = Services(install.VENV)
        names = list(arguments.scenario)
        if arguments.app:
            app_scenario.SETTINGS.update(
                wsgi=arguments.app, asgi=arguments.asgi or "", url=arguments.url
            )
            names.append("app")
        for name in names:
            if name in ALONE:
                module = importlib.import_module(f"scenarios.{name}")
                print(module.measure_alone(Myserver.binary, arguments.results, arguments.quick))
                continue
            result = run_scenario(name, arguments, services)
            report.write(result, arguments.results, plots=not arguments.no_plots)
            print(report.as_json(result) if arguments.json else report.markdown(result), flush=True)
        if set(bounds.SCENARIOS) & set(names) and bounds.are_measured(arguments.results):
            print(bounds.write(arguments.results))
    except Missing as reason:
        print(f"run.py: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if services:
            services.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
