"""
Every object of the chart, and what a change of each value changes.
"""

from __future__ import annotations

import math
from typing import get_args

import helm_python
import kubernetes_validate
import pytest

from celery_platform.routing import Router
from celery_platform.settings import Settings
from tests.helm.conftest import ALL, CHART, LEAST

KUBERNETES = ["1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", kubernetes_validate.latest_version()]
PARTS = ["-worker-default", "-worker-billing", "-worker-reports", "-beat", "-flower"]
SECRETS = {"broker_url", "state_url", "result_url", "database_url"}
# Nothing uses these yet, and the embedded server is not for clusters.
LEFT_OUT = {
    *("encryption_keys", "sentry_dsn", "metrics_port", "health_port", "unknown_ttl", "listen"),
    *("admin_password", "admin_hosts", "admin_secret_key"),
    "workdir",
}


@pytest.fixture(scope="module")
def everything(install):
    return install(base=ALL)


@pytest.mark.parametrize("values", [LEAST, ALL], ids=["least", "all"])
def test_helm_lint_finds_nothing_worse_than_a_missing_icon(values):
    report = helm_python.lint(CHART, values, strict=True, kube_version="v1.30.0")
    assert report["errors"] == []
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", [LEAST, ALL], ids=["least", "all"])
def test_every_object_is_valid_strictly(install, values, version):
    objects = install(base=values).objects
    assert objects
    for thing in objects:
        kubernetes_validate.validate(thing, version, strict=True)


def test_strict_validation_sees_a_misspelt_field(install):
    worker = install().one("Deployment", "-worker-default")
    worker["spec"]["template"]["spec"]["terminationGracePeriodSecs"] = 40
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriodSecs"):
        kubernetes_validate.validate(worker, KUBERNETES[0], strict=True)


def test_the_least_values_make_workers_and_nothing_that_was_not_asked_for(install):
    kinds = sorted(thing["kind"] for thing in install().objects)
    assert kinds == ["Deployment", "PodDisruptionBudget", "ServiceAccount"]


def test_all_names_are_different(everything):
    names = [(thing["kind"], thing["metadata"]["name"]) for thing in everything.objects]
    assert len(names) == len(set(names))


def test_every_selector_finds_the_pods_of_its_own_deployment_alone(everything):
    pods = {d["metadata"]["name"]: d["spec"]["template"]["metadata"]["labels"] for d in everything.all("Deployment")}
    assert len(pods) == len(PARTS)

    def found(selector):
        return [name for name, labels in pods.items() if selector.items() <= labels.items()]

    for deployment in everything.all("Deployment"):
        assert found(deployment["spec"]["selector"]["matchLabels"]) == [deployment["metadata"]["name"]]
    for budget in everything.all("PodDisruptionBudget"):
        assert found(budget["spec"]["selector"]["matchLabels"]) == [budget["metadata"]["name"]]
    assert found(everything.one("Service")["spec"]["selector"]) == ["acme-celery-platform-flower"]


@pytest.mark.parametrize("part", PARTS)
def test_every_pod_passes_the_restricted_standard(everything, part):
    pod, container = everything.pod(part), everything.container(part)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert [sorted(volume) for volume in pod["volumes"]] == [["emptyDir", "name"]]


@pytest.mark.parametrize("part", PARTS)
def test_no_pod_gets_a_token_or_the_addresses_of_services(everything, part):
    assert everything.pod(part)["automountServiceAccountToken"] is False
    assert everything.pod(part)["enableServiceLinks"] is False


@pytest.mark.parametrize("part", PARTS)
def test_every_url_comes_from_a_secret(everything, part):
    environment = everything.environment(part)
    assert environment["PLATFORM_BROKER_URL"] == {"secretKeyRef": {"name": "broker", "key": "url"}}
    assert environment["PLATFORM_STATE_URL"] == {"secretKeyRef": {"name": "state", "key": "state-url"}}
    assert environment["PLATFORM_RESULT_URL"] == {"secretKeyRef": {"name": "results", "key": "url"}}


def test_a_url_that_was_not_given_is_left_to_the_platform(install):
    assert not {"PLATFORM_STATE_URL", "PLATFORM_RESULT_URL"} & install().environment("-worker-default").keys()


def test_settings_arrive_as_the_platform_reads_them(everything, monkeypatch):
    for name, value in everything.environment("-worker-billing").items():
        if isinstance(value, str) and name.startswith("PLATFORM_"):
            monkeypatch.setenv(name, value)
    settings = Settings.load(broker_url="redis://127.0.0.1:1/0")
    assert settings.queues == ("billing", "reports")
    assert settings.routes == {"billing.*": "billing:high"}
    assert settings.soft_shutdown == 90
    assert settings.max_payload_bytes == 1_048_576
    assert settings.lease == 12.5
    assert settings.unsafe == "warn"
    assert Router(settings.queues, settings.routes).queues == ("default", "billing", "reports", "celery")


def test_every_setting_of_the_platform_has_a_value_or_a_reason_to_have_none():
    chart = helm_python.Chart.load(CHART)
    known = chart.schema["properties"]["settings"]["properties"] if isinstance(chart.schema, dict) else None
    assert known is not None
    snake = {"".join(f"_{c.lower()}" if c.isupper() else c for c in name) for name in known}
    assert snake | SECRETS | LEFT_OUT == set(Settings.model_fields)
    assert not snake & (SECRETS | LEFT_OUT)
    assert known["unsafe"]["enum"] == list(get_args(Settings.model_fields["unsafe"].annotation))


def test_a_pool_inherits_from_workers_and_overrides_it(everything):
    billing, reports = everything.container("-worker-billing"), everything.container("-worker-reports")
    assert {"--queues=billing", "--concurrency=8", "--pool=prefork"} <= set(billing["args"])
    assert {"--queues=reports", "--concurrency=2", "--pool=threads"} <= set(reports["args"])
    assert reports["args"][-1] == "--max-tasks-per-child=100"
    assert everything.one("Deployment", "-worker-billing")["spec"]["replicas"] == 3
    assert everything.one("Deployment", "-worker-reports")["spec"]["replicas"] == 1
    assert everything.pod("-worker-reports")["priorityClassName"] == "steady"


def test_a_pool_can_be_scaled_to_zero_below_what_workers_say(install):
    release = install({"workers": {"replicas": 4}, "pools": {"default": {"replicas": 0}}})
    assert release.one("Deployment", "-worker-default")["spec"]["replicas"] == 0


def test_a_pool_of_the_defaults_can_be_taken_out(install):
    release = install({"pools": {"default": None, "all": {"queues": ["celery", "default"]}}})
    assert [d["metadata"]["name"] for d in release.all("Deployment")] == ["acme-celery-platform-worker-all"]
    assert "--queues=celery,default" in release.container("-worker-all")["args"]


@pytest.mark.parametrize("seconds", [0, 25, 90.5, 3600])
def test_the_grace_period_leaves_fifteen_seconds_after_the_soft_shutdown(install, seconds):
    release = install({"settings": {"softShutdown": seconds}})
    assert release.pod("-worker-default")["terminationGracePeriodSeconds"] == math.ceil(seconds) + 15
    assert float(release.environment("-worker-default")["PLATFORM_SOFT_SHUTDOWN"]) == seconds


def test_new_workers_come_before_old_ones_go(install):
    spec = install().one("Deployment", "-worker-default")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": 0}
    assert spec["minReadySeconds"] == 10


def test_beat_alone_gets_the_database_and_a_second_pod_stands_by(install, everything):
    database = {"secretKeyRef": {"name": "database", "key": "url"}}
    assert [part for part in PARTS if everything.environment(part).get("PLATFORM_DATABASE_URL") == database] == [
        "-beat"
    ]
    assert everything.one("Deployment", "-beat")["spec"]["replicas"] == 2
    assert install({"beat": {"replicas": 1}}, base=ALL).one("Deployment", "-beat")["spec"]["replicas"] == 1


def test_flower_asks_for_a_password_from_a_secret(everything):
    assert everything.environment("-flower")["FLOWER_BASIC_AUTH"] == {
        "secretKeyRef": {"name": "flower", "key": "basicAuth"}
    }
    assert "FLOWER_BASIC_AUTH" not in everything.environment("-beat")


def test_only_flower_is_probed_because_only_flower_answers(everything):
    probes = {"startupProbe", "livenessProbe", "readinessProbe"}
    for part in PARTS:
        found = probes & everything.container(part).keys()
        assert found == (probes if part == "-flower" else set()), part
    assert everything.container("-flower")["livenessProbe"]["httpGet"]["path"] == "/healthcheck"


def test_the_service_of_flower_reaches_its_port(install):
    release = install({"flower": {"port": 80}}, base=ALL)
    (port,) = release.one("Service")["spec"]["ports"]
    (exposed,) = release.container("-flower")["ports"]
    assert (port["port"], port["targetPort"]) == (80, exposed["name"])
    assert f"--port={exposed['containerPort']}" in release.container("-flower")["args"]


def test_a_digest_wins_over_a_tag_and_the_tag_over_the_version(install):
    digest = "sha256:" + "a" * 64
    assert install().container("-worker-default")["image"] == "registry.example/billing:0.1.0"
    assert install({"image": {"tag": "7"}}).container("-worker-default")["image"] == "registry.example/billing:7"
    pinned = install({"image": {"tag": "7", "digest": digest}}).container("-worker-default")["image"]
    assert pinned == f"registry.example/billing@{digest}"


def test_pods_spread_over_nodes_unless_an_affinity_is_given(install):
    assert install().pod("-worker-default")["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "ScheduleAnyway"
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    pod = install({"workers": {"affinity": affinity}}).pod("-worker-default")
    assert pod["affinity"] == affinity
    assert "topologySpreadConstraints" not in pod


def test_every_pool_has_a_disruption_budget_unless_switched_off(install, everything):
    assert len(everything.all("PodDisruptionBudget")) == 3
    half = install({"podDisruptionBudget": {"maxUnavailable": "50%"}})
    assert half.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == "50%"
    assert install({"podDisruptionBudget": {"enabled": False}}).all("PodDisruptionBudget") == []


def test_the_network_policy_closes_all_pods_and_opens_flower_to_those_named(install, everything):
    closed, opened = everything.all("NetworkPolicy")
    assert "ingress" not in closed["spec"]
    assert "app.kubernetes.io/component" not in closed["spec"]["podSelector"]["matchLabels"]
    assert opened["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "flower"
    assert opened["spec"]["ingress"][0]["from"] == [{"namespaceSelector": {"matchLabels": {"kind": "proxy"}}}]
    assert len(install({"networkPolicy": {"enabled": True}}).all("NetworkPolicy")) == 1


def test_common_labels_are_on_every_object_and_replace_none_of_ours(install):
    release = install({"commonLabels": {"team": "x", "app.kubernetes.io/component": "stolen"}}, base=ALL)
    for thing in release.objects:
        assert thing["metadata"]["labels"]["team"] == "x"
        assert thing["metadata"]["labels"]["app.kubernetes.io/component"] != "stolen"


def test_extra_environment_and_annotations_reach_every_pod(everything):
    for part in PARTS:
        assert everything.environment(part)["TASKS_LOG_FOLDER"] == "/tmp/logs"
        assert everything.container(part)["envFrom"] == [{"secretRef": {"name": "stripe"}}]
        template = everything.one("Deployment", part)["spec"]["template"]
        assert template["metadata"]["annotations"] == {"example/rollout": "1"}
        assert everything.pod(part)["imagePullSecrets"] == [{"name": "registry"}]


def test_a_service_account_that_exists_already_is_used(install):
    release = install({"serviceAccount": {"create": False, "name": "shared"}})
    assert release.all("ServiceAccount") == []
    assert release.pod("-worker-default")["serviceAccountName"] == "shared"
    made = install({"serviceAccount": {"name": "own"}})
    assert made.one("ServiceAccount")["metadata"]["name"] == made.pod("-worker-default")["serviceAccountName"] == "own"


@pytest.mark.parametrize("name", ["a", "celery-platform", "r" * 53])
def test_names_stay_within_what_kubernetes_takes(install, name):
    for thing in install(base=ALL, name=name).objects:
        assert len(thing["metadata"]["name"]) <= (63 if thing["kind"] == "Service" else 253)


def test_the_notes_tell_what_runs_and_what_does_not(install, everything):
    assert "billing: 3 pods, 8 calls each, queues billing" in everything.notes
    assert "port-forward service/acme-celery-platform-flower" in everything.notes
    assert "Beat is off" in install().notes
    assert "Flower is off" in install().notes
