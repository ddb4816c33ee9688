"""The Helm chart, rendered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from helm_python.chart import Chart

CHART = Path(__file__).resolve().parents[2] / "charts" / "semblance"


def rendered(values: dict[str, Any], name: str = "demo") -> list[dict[str, Any]]:
    """The Kubernetes objects a release would consist of."""
    with Chart.load(CHART) as chart:
        texts = chart.render(values, name=name, namespace="faces")
    return [
        manifest
        for path, text in texts.items()
        if path.endswith(".yaml")
        for manifest in yaml.safe_load_all(text)
        if manifest
    ]


def pod_specs(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every pod's spec, by the name of what makes it."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        if "template" in each["spec"]
        else each["spec"]
        for each in manifests
        if each["kind"] in ("Deployment", "Job", "Pod")
    }
