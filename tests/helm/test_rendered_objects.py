"""
Every object of the chart, and what a change of each value changes.
"""

from __future__ import annotations

import json
import math
from typing import get_args

import helm_python
import jsonschema
import kubernetes_validate
import pytest
import yaml

from celery_platform.routing import Router
from celery_platform.settings import Settings
from tests.helm import custom_resources
from tests.helm.conftest import ALL, CHART, LEAST

KUBERNETES = ["1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", kubernetes_validate.latest_version()]
WORKERS = ["-worker-default", "-worker-billing", "-worker-reports", "-worker-images"]
OTHERS = ["beat", "flower", "exporter"]
PARTS = [*WORKERS, *(f"-{part}" for part in OTHERS)]
#: The values files of the chart, and what stands for all there is.
FILES = {file.stem: yaml.safe_load(file.read_text()) for file in sorted((CHART / "ci").glob("*.yaml"))}
VALUES = {"least": LEAST, "all": ALL, **FILES}
SECRETS = {
    "broker_url",
    "state_url",
    "result_url",
    "database_url",
    "encryption_keys",
    "sentry_dsn",
    "console_metrics_token",
}
#: What the chart sets itself.
OWN = {"health_port", "metrics_port", "memory_limit"}
# The admin of the schedules runs on an operator's machine, and the embedded server is not for clusters.
LEFT_OUT = {"admin_password", "admin_hosts", "admin_secret_key", "listen", "workdir"}


def annotations(thing):
    return thing["metadata"].get("annotations", {})


@pytest.fixture(scope="module")
def everything(install):
    return install(base=ALL)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_helm_lint_finds_nothing_worse_than_a_missing_icon(values):
    report = helm_python.lint(CHART, values, strict=True, kube_version="v1.30.0")
    assert report["errors"] == []
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_every_object_is_valid_strictly(install, values, version):
    objects = install(base=values).objects
    assert objects
    for thing in objects:
        if not custom_resources.validate(thing):
            kubernetes_validate.validate(thing, version, strict=True)


def test_strict_validation_sees_a_misspelt_field(install):
    worker = install().one("Deployment", "-worker-default")
    worker["spec"]["template"]["spec"]["terminationGracePeriodSecs"] = 40
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriodSecs"):
        kubernetes_validate.validate(worker, KUBERNETES[0], strict=True)


@pytest.mark.parametrize("kind", ["ScaledObject", "ServiceMonitor", "PrometheusRule", "ExternalSecret", "HTTPRoute"])
def test_strict_validation_sees_a_misspelt_field_of_an_operators_object(install, kind):
    thing = install(base=ALL).one(kind)
    assert custom_resources.validate(thing)
    thing["spec"]["maxReplicasCount"] = 40
    with pytest.raises(jsonschema.ValidationError, match="maxReplicasCount"):
        custom_resources.validate(thing)


def test_the_values_files_are_those_of_the_read_me():
    assert sorted(FILES) == ["air-gapped", "external-services", "rabbitmq", "redis-only", "sqs"]
    assert [name for name in FILES if f"ci/{name}.yaml" not in (CHART / "README.md").read_text()] == []


def test_the_least_values_make_workers_and_nothing_that_was_not_asked_for(install):
    kinds = sorted(thing["kind"] for thing in install().objects if "helm.sh/hook" not in annotations(thing))
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
    assert found(everything.one("Service", "-flower")["spec"]["selector"]) == ["acme-celery-platform-flower"]
    assert sorted(found(everything.one("Service", "-metrics")["spec"]["selector"])) == sorted(pods)


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
    assert all(sorted(volume) == ["emptyDir", "name"] for volume in pod["volumes"])


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
    assert settings.queues == ("billing", "reports", "images")
    assert settings.routes == {"billing.*": "billing:high"}
    assert settings.soft_shutdown == 90
    assert settings.max_payload_bytes == 1_048_576
    assert settings.lease == 12.5
    assert settings.unsafe == "warn"
    assert Router(settings.queues, settings.routes).queues == ("default", "billing", "reports", "images", "celery")


def test_every_setting_of_the_platform_has_a_value_or_a_reason_to_have_none():
    chart = helm_python.Chart.load(CHART)
    known = chart.schema["properties"]["settings"]["properties"] if isinstance(chart.schema, dict) else None
    assert known is not None
    snake = {"".join(f"_{c.lower()}" if c.isupper() else c for c in name) for name in known}
    assert snake | SECRETS | OWN | LEFT_OUT == set(Settings.model_fields)
    assert not snake & (SECRETS | OWN | LEFT_OUT)
    assert known["unsafe"]["enum"] == list(get_args(Settings.model_fields["unsafe"].annotation))


def test_a_pool_inherits_from_workers_and_overrides_it(everything):
    billing, reports = everything.container("-worker-billing"), everything.container("-worker-reports")
    assert {"--queues=billing", "--concurrency=8", "--pool=prefork"} <= set(billing["args"])
    assert {"--queues=reports", "--concurrency=2", "--pool=threads"} <= set(reports["args"])
    assert reports["args"][-1] == "--without-gossip"
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


def test_what_shows_schedules_gets_the_database_and_a_second_beat_stands_by(install, everything):
    database = {"secretKeyRef": {"name": "database", "key": "url"}}
    given = [part for part in PARTS if everything.environment(part).get("PLATFORM_DATABASE_URL") == database]
    assert given == ["-beat", "-flower", "-exporter"]
    assert not [part for part in WORKERS if "PLATFORM_DATABASE_URL" in everything.environment(part)]
    assert everything.one("Deployment", "-beat")["spec"]["replicas"] == 2
    assert install({"beat": {"replicas": 1}}, base=ALL).one("Deployment", "-beat")["spec"]["replicas"] == 1


def test_flower_asks_for_a_password_from_a_secret(install, everything):
    token = {"metricsToken": {"existingSecret": "scraper"}}
    environment = install({"flower": token}, base=ALL).environment("-flower")
    assert environment["PLATFORM_CONSOLE_METRICS_TOKEN"] == {"secretKeyRef": {"name": "scraper", "key": "token"}}
    assert everything.environment("-flower")["FLOWER_BASIC_AUTH"] == {
        "secretKeyRef": {"name": "flower", "key": "basicAuth"}
    }
    assert "FLOWER_BASIC_AUTH" not in everything.environment("-beat")


@pytest.mark.parametrize("part", PARTS)
def test_every_container_is_probed_where_it_answers(everything, part):
    container = everything.container(part)
    paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
    (port,) = {container[f"{probe}Probe"]["httpGet"]["port"] for probe in paths}
    numbers = {open_port["name"]: open_port["containerPort"] for open_port in container["ports"]}
    environment = everything.environment(part)
    if part == "-flower":
        assert set(paths.values()) == {"/healthcheck"}
        assert f"--port={numbers[port]}" in container["args"]
        assert "PLATFORM_HEALTH_PORT" not in environment
    else:
        assert paths == {"startup": "/startup", "liveness": "/live", "readiness": "/ready"}
        assert environment["PLATFORM_HEALTH_PORT"] == str(numbers[port])
        assert environment["PLATFORM_METRICS_PORT"] == str(numbers["metrics"])


@pytest.mark.parametrize("part", [*WORKERS, "-beat", "-exporter"])
def test_a_loop_that_is_blocked_is_told_within_fifteen_seconds_and_then_restarted(everything, part):
    live = everything.container(part)["livenessProbe"]
    assert live["periodSeconds"] <= 5
    assert live["periodSeconds"] * live["failureThreshold"] <= 15


def test_a_pool_that_scales_by_itself_has_no_replicas_of_its_own(install, everything):
    assert "replicas" not in everything.one("Deployment", "-worker-images")["spec"]
    assert [thing["metadata"]["name"] for thing in everything.all("ScaledObject")] == [
        "acme-celery-platform-worker-images"
    ]
    release = install({"workers": {"autoscaling": {"hpa": {"enabled": True, "max": 5}}}})
    assert "replicas" not in release.one("Deployment", "-worker-default")["spec"]
    scaler = release.one("HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == release.one("Deployment", "-worker-default")["metadata"]["name"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (1, 5)
    assert scaler["metrics"][0]["resource"]["target"]["averageUtilization"] == 70


def test_keda_asks_for_the_age_and_the_work_of_the_queues_that_are_not_paused(install, everything):
    work, age = everything.one("ScaledObject")["spec"]["triggers"]
    assert (work["metadata"]["threshold"], age["metadata"]["threshold"]) == ("60", "30")
    assert (work["metricType"], age["metricType"]) == ("AverageValue", "Value")
    for trigger in (work, age):
        assert trigger["metadata"]["serverAddress"] == "http://prometheus.monitoring:9090"
        assert 'queue_name=~"images"' in trigger["metadata"]["query"]
        assert "unless on (queue_name) platform_queue_paused" in trigger["metadata"]["query"]
    both = {"queues": ["default", "celery"], "autoscaling": {"keda": {"enabled": True, "age": 5, "work": 9}}}
    change = {"pools": {"default": both}, "exporter": {"enabled": True}, "metrics": {"prometheusUrl": "http://p:9090"}}
    work, age = install(change).one("ScaledObject")["spec"]["triggers"]
    assert (work["metadata"]["threshold"], age["metadata"]["threshold"]) == ("9", "5")
    assert 'queue_name=~"default|celery"' in work["metadata"]["query"]


def test_a_pool_overrides_one_word_of_the_autoscaling_and_inherits_the_others(everything):
    spec = everything.one("ScaledObject")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], spec["cooldownPeriod"]) == (0, 7, 300)
    assert spec["fallback"]["replicas"] == 1


def test_a_pool_for_long_tasks_gets_its_own_time_and_memory(everything):
    assert everything.pod("-worker-images")["terminationGracePeriodSeconds"] == 615
    environment = everything.environment("-worker-images")
    assert (environment["PLATFORM_SOFT_SHUTDOWN"], environment["PLATFORM_MEMORY_LIMIT"]) == ("600", "300")
    assert everything.pod("-worker-billing")["terminationGracePeriodSeconds"] == 105
    assert "PLATFORM_MEMORY_LIMIT" not in everything.environment("-worker-billing")


def test_nobody_waits_longer_than_the_hard_time_limit(install):
    release = install({"settings": {"timeLimit": 60}, "workers": {"softShutdown": 500}})
    assert release.pod("-worker-default")["terminationGracePeriodSeconds"] == 75


def test_concurrency_can_be_left_to_the_cpus_of_the_pod(install):
    words = install({"workers": {"concurrency": None}}).container("-worker-default")["args"]
    assert not [word for word in words if str(word).startswith("--concurrency")]


def test_migrations_run_on_every_upgrade_unless_switched_off(install, everything):
    job = everything.one("Job", "-migrations")
    assert annotations(job)["helm.sh/hook"] == "post-install,pre-upgrade"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["schedule", "migrate"]
    assert "PLATFORM_DATABASE_URL" in {item["name"] for item in container["env"]}
    assert "serviceAccountName" not in job["spec"]["template"]["spec"]
    assert install({"beat": {"migrations": False}}, base=ALL).all("Job") == []


def test_helm_test_asks_a_worker_through_the_broker(everything):
    pod = everything.one("Pod", "-test")
    assert annotations(pod)["helm.sh/hook"] == "test"
    assert pod["spec"]["containers"][0]["args"][:2] == ["inspect", "ping"]


def test_flower_drains_before_it_goes_and_is_opened_on_request(install, everything):
    assert everything.container("-flower")["lifecycle"]["preStop"]["sleep"]["seconds"] == 5
    ingress = everything.one("Ingress")["spec"]
    assert ingress["tls"] == [{"hosts": ["tasks.example"], "secretName": "tls"}]
    (rule,) = ingress["rules"]
    name = everything.one("Service", "-flower")["metadata"]["name"]
    assert rule["http"]["paths"][0]["backend"]["service"]["name"] == name
    (route,) = everything.one("HTTPRoute")["spec"]["rules"]
    assert route["backendRefs"] == [{"name": name, "port": 5555}]
    closed = install({"flower": {"enabled": True, "auth": {"existingSecret": "flower"}}})
    assert closed.all("Ingress") == closed.all("HTTPRoute") == []


def test_prometheus_finds_pods_rules_and_dashboards_by_the_labels_given(install, everything):
    monitor = everything.one("ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    service = everything.one("Service", "-metrics")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert everything.one("PrometheusRule")["metadata"]["labels"]["release"] == "prometheus"
    dashboards = everything.one("ConfigMap", "-dashboards")
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert all(json.loads(text)["panels"] for text in dashboards["data"].values())
    slower = install({"metrics": {"serviceMonitor": {"interval": "1m"}}}, base=ALL).one("ServiceMonitor")
    assert slower["spec"]["endpoints"][0]["interval"] == "1m"


def test_external_secrets_make_the_secrets_that_pods_read(everything):
    secret = everything.one("ExternalSecret")
    assert secret["metadata"]["name"] == secret["spec"]["target"]["name"] == "broker"
    assert secret["spec"]["data"] == [{"secretKey": "url", "remoteRef": {"key": "prod/broker"}}]
    assert secret["spec"]["secretStoreRef"] == {"name": "vault", "kind": "ClusterSecretStore"}


def test_extra_volumes_containers_and_objects_are_taken(install, everything):
    assert everything.one("ConfigMap", "acme-extra")
    for part in PARTS:
        assert {"name": "data", "emptyDir": {}} in everything.pod(part)["volumes"]
        assert {"name": "data", "mountPath": "/data"} in everything.container(part)["volumeMounts"]
    proxy, wait = {"name": "proxy", "image": "proxy:1"}, {"name": "wait", "image": "wait:1"}
    release = install({"extraContainers": [proxy], "extraInitContainers": [wait]}, base=ALL)
    for part in (*WORKERS, "-beat"):
        assert release.pod(part)["containers"][1:] == [proxy]
        assert release.pod(part)["initContainers"] == [wait]


def test_a_change_of_the_settings_replaces_the_pods(install, everything):
    def checksum(release):
        return annotations(release.one("Deployment", "-beat")["spec"]["template"])["checksum/settings"]

    assert checksum(install({"settings": {"lease": 20}}, base=ALL)) != checksum(everything)


@pytest.mark.parametrize(("part", "account"), [(p, "worker") for p in WORKERS] + [(f"-{a}", a) for a in OTHERS])
def test_each_part_runs_as_its_own_account(everything, part, account):
    name = f"acme-celery-platform-{account}"
    assert everything.pod(part)["serviceAccountName"] == name
    assert everything.one("ServiceAccount", f"-{account}")["metadata"]["annotations"] == {"example/role": "billing"}


def test_the_service_of_flower_reaches_its_port(install):
    release = install({"flower": {"port": 80}}, base=ALL)
    (port,) = release.one("Service", "-flower")["spec"]["ports"]
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
    assert len(everything.all("PodDisruptionBudget")) == len(WORKERS) + 1
    half = install({"podDisruptionBudget": {"maxUnavailable": "50%"}})
    assert half.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == "50%"
    assert install({"podDisruptionBudget": {"enabled": False}}).all("PodDisruptionBudget") == []


def test_the_network_policy_closes_all_pods_and_opens_what_is_named(install, everything):
    closed, opened = everything.all("NetworkPolicy")
    assert closed["spec"]["ingress"][0]["from"] == [{"namespaceSelector": {"matchLabels": {"kind": "monitoring"}}}]
    assert closed["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for port in closed["spec"]["egress"][0]["ports"]] == [53, 53]
    assert closed["spec"]["egress"][1] == {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
    assert "app.kubernetes.io/component" not in closed["spec"]["podSelector"]["matchLabels"]
    assert opened["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "flower"
    assert opened["spec"]["ingress"][0]["from"] == [{"namespaceSelector": {"matchLabels": {"kind": "proxy"}}}]
    (only,) = install({"networkPolicy": {"enabled": True}}).all("NetworkPolicy")
    assert "ingress" not in only["spec"]
    assert only["spec"]["policyTypes"] == ["Ingress"]


def test_common_labels_are_on_every_object_and_replace_none_of_ours(install):
    release = install({"commonLabels": {"team": "x", "app.kubernetes.io/component": "stolen"}}, base=ALL)
    for thing in release.objects:
        if thing["metadata"]["name"] == "acme-extra":
            continue
        assert thing["metadata"]["labels"]["team"] == "x"
        assert thing["metadata"]["labels"]["app.kubernetes.io/component"] != "stolen"


def test_extra_environment_and_annotations_reach_every_pod(everything):
    for part in PARTS:
        assert everything.environment(part)["TASKS_LOG_FOLDER"] == "/tmp/logs"
        assert everything.container(part)["envFrom"] == [{"secretRef": {"name": "stripe"}}]
        template = everything.one("Deployment", part)["spec"]["template"]
        assert template["metadata"]["annotations"]["example/rollout"] == "1"
        assert everything.pod(part)["imagePullSecrets"] == [{"name": "registry"}]


def test_a_service_account_that_exists_already_is_used(install):
    release = install({"serviceAccount": {"create": False, "name": "shared"}})
    assert release.all("ServiceAccount") == []
    assert release.pod("-worker-default")["serviceAccountName"] == "shared"
    made = install({"serviceAccount": {"name": "own"}})
    name = made.pod("-worker-default")["serviceAccountName"]
    assert made.one("ServiceAccount")["metadata"]["name"] == name == "own-worker"


@pytest.mark.parametrize("name", ["a", "celery-platform", "r" * 53])
def test_names_stay_within_what_kubernetes_takes(install, name):
    for thing in install(base=ALL, name=name).objects:
        assert len(thing["metadata"]["name"]) <= (63 if thing["kind"] == "Service" else 253)


def test_the_notes_tell_what_runs_and_what_does_not(install, everything):
    assert "billing: 3 pods, 8 calls each, queues billing" in everything.notes
    assert "port-forward service/acme-celery-platform-flower" in everything.notes
    assert "Beat is off" in install().notes
    assert "Flower is off" in install().notes
