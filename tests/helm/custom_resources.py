"""
What the objects of operators look like, as far as the chart makes them: a word that is not listed here is a mistake.
"""

from __future__ import annotations

from typing import Any

import jsonschema

TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
LABELS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}


def closed(required: str = "", **properties: Any) -> dict[str, Any]:
    """
    Return the schema of an object with these properties and no other; *required* names some of them.
    """
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": required.split(),
    }


def several(item: dict[str, Any]) -> dict[str, Any]:
    """
    Return the schema of a list with at least one *item*.
    """
    return {"type": "array", "minItems": 1, "items": item}


_POLICY = closed(
    "type value periodSeconds",
    type={"enum": ["Percent", "Pods"]},
    value=COUNT,
    periodSeconds={"maximum": 1800, **COUNT},
)
_RULES = closed(stabilizationWindowSeconds={"maximum": 3600, **COUNT}, policies=several(_POLICY))
_TRIGGER = closed(
    "type metadata",
    type={"const": "prometheus"},
    name=TEXT,
    metricType={"enum": ["AverageValue", "Value"]},
    # KEDA reads texts here, also where they are numbers.
    metadata=closed(
        "serverAddress query threshold", serverAddress=TEXT, query=TEXT, threshold=TEXT, activationThreshold=TEXT
    ),
)
_SCALED_OBJECT = closed(
    "scaleTargetRef triggers",
    scaleTargetRef=closed("name", name=TEXT),
    minReplicaCount=COUNT,
    maxReplicaCount={"type": "integer", "minimum": 1},
    pollingInterval=COUNT,
    cooldownPeriod=COUNT,
    fallback=closed(
        "failureThreshold replicas",
        failureThreshold=COUNT,
        replicas=COUNT,
        behavior={"enum": ["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]},
    ),
    advanced=closed(horizontalPodAutoscalerConfig=closed(behavior=closed(scaleUp=_RULES, scaleDown=_RULES))),
    triggers=several(_TRIGGER),
)
_SERVICE_MONITOR = closed(
    "selector endpoints",
    selector=closed(matchLabels=LABELS),
    podTargetLabels=several(TEXT),
    endpoints=several(closed(port=TEXT, path=TEXT, interval={"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"})),
)
_ALERT = closed("alert expr", alert=TEXT, expr=TEXT, labels=LABELS, annotations=LABELS, **{"for": TEXT})
_RECORD = closed("record expr", record=TEXT, expr=TEXT, labels=LABELS)
_PROMETHEUS_RULE = closed(
    "groups",
    groups=several(closed("name rules", name=TEXT, interval=TEXT, rules=several({"oneOf": [_ALERT, _RECORD]}))),
)
_EXTERNAL_SECRET = closed(
    "secretStoreRef target data",
    refreshInterval=TEXT,
    secretStoreRef=closed("name kind", name=TEXT, kind={"enum": ["SecretStore", "ClusterSecretStore"]}),
    target=closed("name", name=TEXT),
    data=several(closed("secretKey remoteRef", secretKey=TEXT, remoteRef=closed("key", key=TEXT))),
)
_HTTP_ROUTE = closed(
    "parentRefs rules",
    parentRefs=several(closed("name", name=TEXT, namespace=TEXT, sectionName=TEXT, port=COUNT)),
    hostnames=several(TEXT),
    rules=several(
        closed(
            "backendRefs",
            matches=several(closed(path=closed("type value", type={"enum": ["Exact", "PathPrefix"]}, value=TEXT))),
            backendRefs=several(closed("name port", name=TEXT, port=COUNT)),
        )
    ),
)
SPECS = {
    ("keda.sh/v1alpha1", "ScaledObject"): _SCALED_OBJECT,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _SERVICE_MONITOR,
    ("monitoring.coreos.com/v1", "PrometheusRule"): _PROMETHEUS_RULE,
    ("external-secrets.io/v1", "ExternalSecret"): _EXTERNAL_SECRET,
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): _HTTP_ROUTE,
}


def validate(thing: dict[str, Any]) -> bool:
    """
    Hold an operator's object to its schema; answer whether it is one.
    """
    spec = SPECS.get((thing["apiVersion"], thing["kind"]))
    if spec is None:
        return False
    metadata = closed("name labels", name=TEXT, labels=LABELS, annotations=LABELS)
    whole = closed("apiVersion kind metadata spec", apiVersion=TEXT, kind=TEXT, metadata=metadata, spec=spec)
    jsonschema.validate(thing, whole)
    return True
