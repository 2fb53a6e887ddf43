"""deploy/: what belongs together agrees. `make lint-kubernetes` asks the published schemas as well."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from harness import ROOT, run

DEPLOY = ROOT / "deploy"
OVERLAYS = sorted((DEPLOY / "kubernetes" / "overlays").iterdir())
INI = DEPLOY / "container" / "myserver.ini"
METRIC = "myserver_saturation_ratio"

Objects = dict[str, Any]


@pytest.fixture(params=OVERLAYS, ids=lambda path: path.name)
def objects(request: pytest.FixtureRequest) -> Objects:
    """What an overlay becomes, by "Kind name"."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is missing, which builds the overlays")
    command = ["kubectl", "kustomize", str(request.param)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = [document for document in yaml.safe_load_all(done.stdout) if document]
    return {f"{o['kind']} {o['metadata']['name']}": o for o in found}


def pod(objects: Objects) -> Any:
    """The pod that the deployment makes."""
    return objects["Deployment shop"]["spec"]["template"]


def container(objects: Objects) -> Any:
    """Its only container."""
    (only,) = pod(objects)["spec"]["containers"]
    return only


def seconds(text: str) -> float:
    """A duration as the options have it."""
    number, unit = re.fullmatch(r"([0-9.]+)(s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"s": 1, "m": 60}[unit]


def settings(arguments: list[str]) -> dict[str, str]:
    """What the server would say of its settings in the pod."""
    done = run("-c", INI, *arguments, "--print-config")
    assert done.returncode == 0, done.stderr
    lines = (line.partition(" ; ")[0].partition(" = ") for line in done.stdout.splitlines())
    return {name: value.strip() for name, _, value in lines}


def test_there_are_all(objects: Objects) -> None:
    assert objects.keys() == {
        "Deployment shop",
        "Service shop",
        "Service shop-control",
        "Ingress shop",
        "HorizontalPodAutoscaler shop",
        "PodDisruptionBudget shop",
        "ServiceMonitor shop",
    }
    assert len({o["metadata"]["namespace"] for o in objects.values()}) == 1


def test_every_selector_finds_the_pods(objects: Objects) -> None:
    labels = pod(objects)["metadata"]["labels"].items()
    selectors = [
        objects["Deployment shop"]["spec"]["selector"]["matchLabels"],
        objects["Service shop"]["spec"]["selector"],
        objects["Service shop-control"]["spec"]["selector"],
        objects["PodDisruptionBudget shop"]["spec"]["selector"]["matchLabels"],
        pod(objects)["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector and selector.items() <= labels


def test_ports_are_those_of_the_server(objects: Objects) -> None:
    """By name from the ingress to the process, and by number in the settings."""
    ports = {port["name"]: port["containerPort"] for port in container(objects)["ports"]}
    had = settings(container(objects)["args"])
    assert had["bind"] == f"0.0.0.0:{ports['http']}"
    assert had["control"] == f"0.0.0.0:{ports['control']}"
    for service, port in ("shop", "http"), ("shop-control", "control"):
        (only,) = objects[f"Service {service}"]["spec"]["ports"]
        assert (only["name"], only["targetPort"]) == (port, port)
    path = objects["Ingress shop"]["spec"]["rules"][0]["http"]["paths"][0]
    assert path["backend"]["service"] == {"name": "shop", "port": {"name": "http"}}


def test_probes_ask_the_control_process(objects: Objects) -> None:
    asked = {
        kind: container(objects)[kind]["httpGet"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert asked["readinessProbe"] == {"path": "/readyz", "port": "control"}
    assert asked["startupProbe"] == asked["readinessProbe"]
    assert asked["livenessProbe"] == {"path": "/livez", "port": "control"}


def test_a_stop_has_the_time_that_it_needs(objects: Objects) -> None:
    """Readiness is seen before the delay is over, and the kill comes after everything."""
    had = settings(container(objects)["args"])
    delay, drain = seconds(had["shutdown-delay"]), seconds(had["graceful-timeout"])
    probe = container(objects)["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] * 2 <= delay
    assert pod(objects)["spec"]["terminationGracePeriodSeconds"] > delay + drain
    assert "lifecycle" not in container(objects)
    rolling = objects["Deployment shop"]["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_container_may_do_nothing_else(objects: Objects) -> None:
    user = pod(objects)["spec"]["securityContext"]
    assert user["runAsNonRoot"] is True and user["runAsUser"] == user["runAsGroup"] == 10001
    may = container(objects)["securityContext"]
    assert may["readOnlyRootFilesystem"] is True
    assert may["allowPrivilegeEscalation"] is False
    assert may["capabilities"] == {"drop": ["ALL"]}
    limits = container(objects)["resources"]["limits"]
    assert limits["memory"] == container(objects)["resources"]["requests"]["memory"]


def test_the_autoscaler_gets_its_metric(objects: Objects) -> None:
    """From the server's name for it, over the monitor and the adapter."""
    scaler = objects["HorizontalPodAutoscaler shop"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == "shop"
    (metric,) = scaler["metrics"]
    assert metric["pods"]["metric"]["name"] == METRIC
    assert "replicas" not in objects["Deployment shop"]["spec"]
    assert scaler["minReplicas"] < scaler["maxReplicas"]
    monitor = objects["ServiceMonitor shop"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= (
        objects["Service shop-control"]["metadata"]["labels"].items()
    )
    (endpoint,) = monitor["endpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("control", "/metrics")
    (rule,) = yaml.safe_load((DEPLOY / "kubernetes" / "prometheus-adapter.yaml").read_text())[
        "rules"
    ]["custom"]
    assert rule["seriesQuery"].startswith(METRIC + "{")
    assert re.search(rule["name"]["matches"], METRIC) and rule["name"]["as"] == METRIC
    for part in ("<<.Series>>", "<<.LabelMatchers>>", "<<.GroupBy>>"):
        assert part in rule["metricsQuery"]


# ---- the image


def instructions() -> Iterator[tuple[str, str]]:
    """The lines of the Containerfile, each with its continuation."""
    text = (DEPLOY / "container" / "Containerfile").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            yield name, " ".join(rest.split())


def test_the_image_is_small_and_has_no_root() -> None:
    found = list(instructions())
    (name,) = {rest for what, rest in found if rest.startswith("DISTRIBUTION=")}
    assert found.index(("ARG", name)) < next(i for i, f in enumerate(found) if f[0] == "FROM")
    distribution = name.partition("=")[2]
    whole = (DEPLOY / "container" / "Containerfile").read_text()
    assert whole.count(distribution) == 1  # one place to change
    last = [i for i, (what, _) in enumerate(found) if what == "FROM"][-1]
    final = found[last + 1 :]
    assert not [rest for what, rest in final if what == "RUN"]  # no tools of a build in it
    users = [rest for what, rest in final if what == "USER"]
    assert users and re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_the_image_speaks_with_the_server() -> None:
    """The exec form, so that the server is process 1 and hears TERM; the health check asks it."""
    found = dict(instructions())
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert yaml.safe_load(found["ENTRYPOINT"]) == ["myserver", "-c", "/etc/myserver.ini"]
    check = yaml.safe_load(found["HEALTHCHECK"].partition("CMD ")[2])
    assert check == ["myserver", "--health", "-c", "/etc/myserver.ini"]
    assert ("COPY", "myserver.ini /etc/myserver.ini") in instructions()
    ini = configparser.ConfigParser(inline_comment_prefixes=(";",))
    ini.read_string(INI.read_text())
    exposed = found["EXPOSE"].split()
    assert [ini["myserver"][name].rpartition(":")[2] for name in ("bind", "control")] == exposed


def test_documents_name_the_files() -> None:
    """Whoever reads about them finds them."""
    text = (ROOT / "docs" / "containers.md").read_text()
    files = [p for p in DEPLOY.rglob("*") if p.is_file()]
    for path in {*(p for p in files if "base" not in p.parts), DEPLOY / "kubernetes" / "base"}:
        relative = path.relative_to(ROOT)
        assert str(relative) in text or str(relative.parent) in text, relative


def documented() -> list[list[str]]:
    """The commands of docs/containers.md that this program can be asked to explain."""
    lines = (ROOT / "docs" / "containers.md").read_text().splitlines()
    return [line.split() for line in lines if line.startswith("    myserver ")]


@pytest.mark.parametrize("command", documented(), ids=" ".join)
def test_documented_commands_are_right(command: list[str]) -> None:
    """No word of them is a mistake; nobody listens where a health check asks."""
    here = [str(INI) if word == "/etc/myserver.ini" else word for word in command[1:]]
    if "--health" in here:
        here = [word.replace(":9100", ":1") for word in here]
        done = run(*here, *([] if "--control" in here else ["--control", "127.0.0.1:1"]))
        assert (done.returncode, done.stderr) == (1, "")
    else:
        done = run(*here, "--print-config")
        assert (done.returncode, done.stderr) == (0, "")
