"""
What Helm refuses to install: typos by their path, contradictions by a sentence that says what to do.
"""

from __future__ import annotations

import re

import helm_python
import pytest
import yaml

from tests.helm.conftest import ALL, CHART

TYPOS = {
    "a misspelt part": ({"bet": {"enabled": True}}, "'bet' not allowed"),
    "a misspelt key": ({"workers": {"replica": 2}}, "at '/workers': additional properties 'replica'"),
    "a misspelt key of a pool": ({"pools": {"default": {"concurency": 2}}}, "at '/pools/default'"),
    "a misspelt setting": ({"settings": {"softShutdownSeconds": 2}}, "at '/settings'"),
    "a url in clear": ({"broker": {"url": "redis://:secret@host"}}, "at '/broker'"),
    "negative replicas": ({"workers": {"replicas": -1}}, "at '/workers/replicas'"),
    "negative replicas of a pool": ({"pools": {"default": {"replicas": -1}}}, "at '/pools/default/replicas'"),
    "no concurrency": ({"workers": {"concurrency": 0}}, "at '/workers/concurrency'"),
    "a number as text": ({"workers": {"replicas": "2"}}, "at '/workers/replicas'"),
    "an unknown pool": ({"workers": {"pool": "eventlet"}}, "at '/workers/pool'"),
    "a name no object can have": ({"pools": {"Billing_1": {"queues": ["default"]}}}, "at '/pools'"),
    "a queue the platform refuses": ({"settings": {"queues": ["a b"]}}, "at '/settings/queues/0'"),
    "an unknown priority": ({"settings": {"routes": {"a.*": "default:urgent"}}}, "at '/settings/routes/a.*'"),
    "no beat at all": ({"beat": {"replicas": 0}}, "at '/beat/replicas'"),
    "a lease too short": ({"settings": {"lease": 0.5}}, "at '/settings/lease'"),
    "no disruption ever": ({"podDisruptionBudget": {"maxUnavailable": 0}}, "at '/podDisruptionBudget/maxUnavailable'"),
    "a digest that is none": ({"image": {"digest": "latest"}}, "at '/image/digest'"),
    "an unknown resource word": ({"workers": {"resources": {"limit": {}}}}, "at '/workers/resources'"),
    "an unknown way to scale": ({"workers": {"autoscaling": {"vpa": {}}}}, "at '/workers/autoscaling'"),
    "a scaling to less than nothing": (
        {"pools": {"default": {"autoscaling": {"keda": {"min": -1}}}}},
        "at '/pools/default/autoscaling/keda/min'",
    ),
    "a password in the address of Prometheus": (
        {"metrics": {"prometheusUrl": "http://me:secret@prometheus"}},
        "at '/metrics/prometheusUrl'",
    ),
    "a duration without a unit": (
        {"metrics": {"serviceMonitor": {"interval": "15"}}},
        "/metrics/serviceMonitor/interval",
    ),
    "a negative memory limit": ({"workers": {"memoryLimit": -5}}, "at '/workers/memoryLimit'"),
    "a boolean as text": ({"flower": {"enabled": "yes"}}, "at '/flower/enabled'"),
}

CONTRADICTIONS = {
    "no image": ({"image": {"repository": ""}}, "image.repository is empty. Name the image"),
    "no broker": ({"broker": {"existingSecret": ""}}, "broker.existingSecret is empty. Create a Secret"),
    "no pool": ({"pools": {"default": None}}, "pools is empty, so nobody would work. Add a pool"),
    "a pool without queues": ({"pools": {"default": {"queues": []}}}, "pools.default has no queues"),
    "a pool that never had queues": ({"pools": {"other": {"replicas": 2}}}, "pools.other has no queues"),
    "a pool of an undeclared queue": (
        {"pools": {"default": {"queues": ["default", "celery", "biling"]}}, "settings": {"queues": ["billing"]}},
        '"biling", which is not declared. Add it to settings.queues, or choose one of: default, billing, celery.',
    ),
    "a queue nobody serves": ({"settings": {"queues": ["billing"]}}, 'No pool serves the queue "billing"'),
    "the queue of plain producers unserved": (
        {"pools": {"default": {"queues": ["default"]}}},
        'No pool serves the queue "celery"',
    ),
    "a route to nowhere": ({"settings": {"routes": {"a.*": "billing:high"}}}, 'sends "a.*" to the queue "billing"'),
    "Flower for everybody": ({"flower": {"enabled": True}}, "flower.auth.existingSecret is empty. Create a Secret"),
    "HPA and KEDA": (
        {"workers": {"autoscaling": {"hpa": {"enabled": True}, "keda": {"enabled": True}}}},
        "pools.default scales by HPA and by KEDA, which would fight over its pods",
    ),
    "replicas beside a scaler": (
        {"pools": {"default": {"replicas": 3, "autoscaling": {"hpa": {"enabled": True}}}}},
        "pools.default has replicas and scales by itself",
    ),
    "a minimum above the maximum": (
        {"workers": {"autoscaling": {"hpa": {"enabled": True, "min": 20}}}},
        "pools.default scales by hpa from 20 to 10 pods",
    ),
    "KEDA without a Prometheus": (
        {"workers": {"autoscaling": {"keda": {"enabled": True}}}, "exporter": {"enabled": True}},
        "metrics.prometheusUrl is empty",
    ),
    "KEDA without an exporter": (
        {"workers": {"autoscaling": {"keda": {"enabled": True}}}, "metrics": {"prometheusUrl": "http://p"}},
        "exporter.enabled is false",
    ),
    "HPA without a request": (
        {"workers": {"autoscaling": {"hpa": {"enabled": True}}, "resources": {"requests": {"cpu": None}}}},
        "resources.requests have no cpu",
    ),
    "solo with company": ({"workers": {"pool": "solo"}}, "pool solo, which runs one call at a time, and concurrency 2"),
    "a memory limit of threads": ({"workers": {"pool": "threads", "memoryLimit": 9}}, "calls share one process"),
    "children of threads": (
        {"workers": {"pool": "gevent", "extraArgs": ["--max-tasks-per-child=9"]}},
        "has no processes to replace",
    ),
    "a farewell longer than any task": (
        {"settings": {"softShutdown": 100, "timeLimit": 60}},
        "settings.softShutdown (100 s) is longer than settings.timeLimit (60 s)",
    ),
    "a way to nowhere": ({"flower": {"ingress": {"enabled": True}}}, "it would lead nowhere. Enable flower"),
    "passwords in clear": (
        {"flower": {"enabled": True, "auth": {"existingSecret": "x"}, "ingress": {"enabled": True, "host": "a"}}},
        "flower.ingress needs host and tlsSecret",
    ),
    "a route without a gateway": (
        {"flower": {"enabled": True, "auth": {"existingSecret": "x"}, "httpRoute": {"enabled": True}}},
        "flower.httpRoute.parentRefs is empty",
    ),
    "secrets from nowhere": ({"externalSecrets": {"enabled": True}}, "externalSecrets.storeName is empty"),
    "no secrets": ({"externalSecrets": {"enabled": True, "storeName": "x"}}, "externalSecrets.secrets is empty"),
    "a secret without its key": (
        {"externalSecrets": {"enabled": True, "storeName": "x", "secrets": {"broker": {"uri": "a"}}}},
        'broker takes the key "url" of the Secret "broker"',
    ),
    "schedules in a file of a pod": ({"beat": {"enabled": True}}, "database.existingSecret is empty. Create a Secret"),
    "a password in the environment": (
        {"extraEnv": [{"name": "PLATFORM_SENTRY_DSN", "value": "secret"}]},
        "extraEnv[0] gives PLATFORM_SENTRY_DSN in clear. Keep it in a Secret",
    ),
    "a second source of the broker": (
        {"extraEnv": [{"name": "PLATFORM_BROKER_URL", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}]},
        "extraEnv[0] sets PLATFORM_BROKER_URL, which the chart sets or holds",
    ),
    "an open interface of Flower": (
        {"extraEnv": [{"name": "A"}, {"name": "FLOWER_UNAUTHENTICATED_API", "value": "1"}]},
        "extraEnv[1] sets FLOWER_UNAUTHENTICATED_API",
    ),
}


@pytest.mark.parametrize(("values", "told"), TYPOS.values(), ids=TYPOS)
def test_a_value_that_cannot_be_is_refused_with_its_path(refusal, values, told):
    assert told in refusal(values)


@pytest.mark.parametrize(("values", "told"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_contradiction_is_refused_with_a_sentence(refusal, values, told):
    assert told in refusal(values)


def test_everything_switched_on_is_no_contradiction(install):
    assert install(base=ALL).objects


@pytest.mark.parametrize(
    "name",
    [
        *(f"PLATFORM_{name}" for name in ("BROKER_URL", "STATE_URL", "RESULT_URL", "DATABASE_URL", "ENCRYPTION_KEYS")),
        *(
            "PLATFORM_SENTRY_DSN",
            "PLATFORM_ADMIN_SECRET_KEY",
            "PLATFORM_ADMIN_PASSWORD",
            "PLATFORM_CONSOLE_METRICS_TOKEN",
            "FLOWER_BASIC_AUTH",
        ),
    ],
)
def test_no_secret_of_the_platform_can_be_written_in_clear(refusal, name):
    assert f"extraEnv[0] gives {name} in clear" in refusal({"extraEnv": [{"name": name, "value": "x"}]})


def test_no_refusal_repeats_a_secret(refusal):
    assert "hunter2" not in refusal({"extraEnv": [{"name": "PLATFORM_STATE_URL", "value": "redis://:hunter2@x"}]})


def test_every_value_has_a_comment_above_it():
    bare = []
    lines = (CHART / "values.yaml").read_text().splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        key = re.match(r"( *)([\w-]+):", line)
        # `requests` and `limits` are Kubernetes' own words, explained by the key above them.
        if key and key[2] not in {"requests", "limits"} and not before.strip().startswith("#"):
            bare.append(line)
    assert bare == []


def test_the_example_of_the_read_me_is_installed(install):
    (example,) = re.findall(r"```yaml\n(.*?)```", (CHART / "README.md").read_text(), re.DOTALL)
    release = install(yaml.safe_load(example))
    assert len(release.all("Deployment")) == 3
    assert release.container("-worker-reports")["resources"]["limits"] == {"memory": "2Gi"}
    assert release.environment("-worker-reports")["PLATFORM_ROUTES"] == "billing.*=billing:high"


def test_the_values_stay_few():
    assert len((CHART / "values.yaml").read_text().splitlines()) <= 200


def test_the_read_me_names_every_value_and_every_setting():
    page = (CHART / "README.md").read_text()
    chart = helm_python.Chart.load(CHART)
    settings = chart.schema["properties"]["settings"]["properties"]
    assert [name for name in chart.values if f"`{name}" not in page] == []
    assert [name for name in settings if f"`settings.{name}`" not in page] == []
