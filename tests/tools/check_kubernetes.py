"""Validate what the overlays of deploy/kubernetes become against the published schemas.

usage: check_kubernetes.py OVERLAY...   with requirements-kubernetes.txt installed, and kubectl
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

# Several versions, since a cluster may be a year behind.
VERSIONS = ("1.31", "1.35")
OTHERS = {
    "monitoring.coreos.com/v1": "an operator brings its schema; test_manifests.py looks at it"
}


def rendered(overlay: str) -> list[Any]:
    """The objects that would be applied."""
    import yaml

    command = ["kubectl", "kustomize", overlay]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def main(overlays: list[str]) -> int:
    """Print each object with what is wrong; 1 if anything is."""
    import kubernetes_validate

    wrong = checked = 0
    for overlay in overlays:
        for document in rendered(overlay):
            name = f"{overlay}: {document['kind']} {document['metadata']['name']}"
            if reason := OTHERS.get(document["apiVersion"]):
                print(f"{name}: left out: {reason}")
                continue
            for version in VERSIONS:
                checked += 1
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    path = ".".join(map(str, error.path))
                    print(f"{name}: {version}: {path}: {error.message}")
                    wrong += 1
    print(f"{checked} objects are checked, {wrong} are wrong")
    return 1 if wrong or not checked else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
