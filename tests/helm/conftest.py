"""
The chart, rendered by Helm itself; no cluster and no `helm` program is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

CHART = Path(__file__).parents[2] / "helm"

#: The least a deployment has to say.
LEAST: dict[str, Any] = {
    "image": {"repository": "registry.example/billing"},
    "broker": {"existingSecret": "broker"},
}
#: Everything switched on.
ALL: dict[str, Any] = {
    **LEAST,
    "image": {"repository": "registry.example/billing", "tag": "7"},
    "imagePullSecrets": [{"name": "registry"}],
    "state": {"existingSecret": "state", "key": "state-url"},
    "results": {"existingSecret": "results"},
    "settings": {
        "queues": ["billing", "reports", "images"],
        "routes": {"billing.*": "billing:high"},
        "softShutdown": 90,
        "maxPayloadBytes": 1_048_576,
        "lease": 12.5,
        "unsafe": "warn",
    },
    "workers": {"priorityClassName": "steady", "nodeSelector": {"kind": "work"}, "tolerations": [{"key": "work"}]},
    "pools": {
        "billing": {"queues": ["billing"], "replicas": 3, "concurrency": 8},
        "reports": {"queues": ["reports"], "pool": "threads", "extraArgs": ["--without-gossip"]},
        "images": {
            "queues": ["images"],
            "softShutdown": 600,
            "memoryLimit": 300,
            "autoscaling": {"keda": {"enabled": True, "min": 0, "max": 7}},
        },
    },
    "database": {"existingSecret": "database"},
    "beat": {"enabled": True},
    "encryption": {"existingSecret": "encryption"},
    "sentry": {"existingSecret": "sentry"},
    "externalSecrets": {"enabled": True, "storeName": "vault", "secrets": {"broker": {"url": "prod/broker"}}},
    "flower": {
        "enabled": True,
        "auth": {"existingSecret": "flower"},
        "ingress": {"enabled": True, "host": "tasks.example", "tlsSecret": "tls", "className": "nginx"},
        "httpRoute": {"enabled": True, "hostnames": ["tasks.example"], "parentRefs": [{"name": "public"}]},
    },
    "exporter": {"enabled": True},
    "metrics": {
        "prometheusUrl": "http://prometheus.monitoring:9090",
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "rules": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboards": {"enabled": True},
    },
    "extraVolumes": [{"name": "data", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "data", "mountPath": "/data"}],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-extra"}}],
    "extraEnv": [{"name": "TASKS_LOG_FOLDER", "value": "/tmp/logs"}],
    "extraEnvFrom": [{"secretRef": {"name": "stripe"}}],
    "commonLabels": {"team": "billing"},
    "podAnnotations": {"example/rollout": "1"},
    "serviceAccount": {"annotations": {"example/role": "billing"}},
    "networkPolicy": {
        "enabled": True,
        "flowerFrom": [{"namespaceSelector": {"matchLabels": {"kind": "proxy"}}}],
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kind": "monitoring"}}}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
    },
}


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """
    Return *base* with *change* laid over it, folder by folder.
    """
    both = {**base, **change}
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            both[name] = merged(base[name], value)
    return both


class Release:
    """What `helm install` would send to the cluster."""

    def __init__(self, values: dict[str, Any], name: str) -> None:
        with helm_python.Chart.load(CHART) as chart:
            self.texts = chart.render(values, name=name, namespace="work")
        self.notes = next(text for path, text in self.texts.items() if path.endswith("NOTES.txt"))
        self.objects = [
            document
            for path, text in self.texts.items()
            if path.endswith(".yaml")
            for document in yaml.safe_load_all(text)
            if document
        ]

    def one(self, kind: str, ending: str = "") -> dict[str, Any]:
        """
        Return the only object of *kind* whose name ends with *ending*.
        """
        found = [thing for thing in self.all(kind) if thing["metadata"]["name"].endswith(ending)]
        assert len(found) == 1, f"expected one {kind} …{ending}, got {[t['metadata']['name'] for t in found]}"
        return found[0]

    def all(self, kind: str) -> list[dict[str, Any]]:
        """
        Return the objects of *kind*.
        """
        return [thing for thing in self.objects if thing["kind"] == kind]

    def pod(self, ending: str) -> dict[str, Any]:
        """
        Return the pod of the Deployment whose name ends with *ending*.
        """
        return self.one("Deployment", ending)["spec"]["template"]["spec"]

    def container(self, ending: str) -> dict[str, Any]:
        """
        Return the only container of that pod.
        """
        (container,) = self.pod(ending)["containers"]
        return container

    def environment(self, ending: str) -> dict[str, Any]:
        """
        Return the environment of that container: texts, and where the others come from.
        """
        return {item["name"]: item.get("value", item.get("valueFrom")) for item in self.container(ending)["env"]}


@pytest.fixture(scope="session")
def install():
    """
    Render the chart with the least values and the given ones over them.
    """

    def render(change: dict[str, Any] | None = None, *, base: dict[str, Any] = LEAST, name: str = "acme") -> Release:
        return Release(merged(base, change or {}), name)

    return render


@pytest.fixture(scope="session")
def refusal():
    """
    Return what Helm says to values that it does not install.
    """

    def refused(change: dict[str, Any], *, base: dict[str, Any] = LEAST) -> str:
        with pytest.raises((helm_python.HelmRenderError, helm_python.HelmValuesError)) as caught:
            Release(merged(base, change), "acme")
        return str(caught.value)

    return refused
