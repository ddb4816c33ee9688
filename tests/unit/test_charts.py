"""The Helm chart: lints, renders, and what it renders is valid Kubernetes and fits the program."""

from __future__ import annotations

import json
from typing import Any

import helm_python
import kubernetes_validate
import psycopg
import pytest
import yaml
from helm_python.chart import Chart, lint

from service.config import Settings
from tests.unit.rendering import CHART, pod_specs, rendered

COMPONENTS = {"node", "api", "relay", "worker-gpu", "worker-report", "worker-io"}
KUBERNETES = ("1.27", "1.37")  # oldest the chart admits, and the newest there is a schema of
AUTOSCALED = {
    "workers": {
        queue: {"autoscaling": {"enabled": True, "minReplicas": 0, "maxReplicas": 9, "waitingPerReplica": 50}}
        for queue in ("gpu", "report", "io")
    }
}
PRODUCTION = {
    "image": {"repository": "images.hospital.example/semblance", "tag": "1.2.3", "pullSecrets": ["pull"]},
    "settings": {
        "dicom_ae_title": "FACES",
        "dicom_allowed_calling_ae_titles": ["CAMERA1", "PACS"],
        "destinations": [{"name": "pacs", "ae_title": "PACS", "host": "pacs.hospital.example", "port": 104}],
        "storage_low_watermark_bytes": 50000000000,
        "delivery_timeout_s": 12.5,
        "structured_report": False,
    },
    "secretEnvironment": [{"name": "SEMBLANCE_ORGANISATION", "secret": "names", "key": "organisation"}],
    "storage": {"existingClaim": "photographs"},
    "models": {"existingClaim": "models"},
    "dicomTls": {"existingSecret": "dicom-tls"},
    "node": {"service": {"loadBalancerSourceRanges": ["10.20.0.0/16"]}},
    "api": {
        "ingress": {
            "enabled": True,
            "host": "fhir.hospital.example",
            "tlsSecret": "tls",
            "className": "nginx",
        }
    },
    "networkPolicy": {
        "dicomFrom": [{"ipBlock": {"cidr": "10.20.0.0/16"}}],
        "apiFrom": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
    },
}
ON_ONE_MACHINE = {
    "workers": {"gpu": {"gpus": 0}},
    "storage": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local"},
    "node": {"service": {"type": "NodePort", "nodePort": 31112}},
    "podDisruptionBudget": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "serviceAccount": {"create": False},
}
WATCHED: dict[str, Any] = {
    "image": {"digest": "sha256:" + "0f" * 32},
    "settings": {"dicom_users_file": "/etc/semblance/users/users"},
    "extraVolumes": [
        {"name": "users", "mountPath": "/etc/semblance/users", "secret": {"secretName": "dicom-users"}},
        {"name": "syslog", "mountPath": "/etc/semblance/syslog", "configMap": {"name": "syslog-ca"}},
    ],
    "monitoring": {"enabled": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {"monitoringFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
}
VALUES = {
    "default": {},
    "production": PRODUCTION,
    "autoscaled": AUTOSCALED,
    "one machine": ON_ONE_MACHINE,
    "watched": WATCHED,
}
OF_OPERATORS = ("keda.sh/", "monitoring.coreos.com/")  # kinds that are not Kubernetes' own


def of_kind(manifests: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """The objects of a kind by name."""
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_it_lints_strictly(values: dict[str, Any]) -> None:
    report = lint(CHART, values, strict=True)

    assert report["errors"] == []
    assert [each for each in report["messages"] if each["severity"] >= 2] == []


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_every_object_is_valid_kubernetes(values: dict[str, Any], version: str) -> None:
    manifests = [each for each in rendered(values) if not each["apiVersion"].startswith(OF_OPERATORS)]

    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)
    assert set(of_kind(manifests, "Deployment")) == {
        f"demo-semblance-{component}" for component in COMPONENTS
    }


def test_the_validation_can_fail() -> None:
    deployment = of_kind(rendered({}), "Deployment")["demo-semblance-api"]
    deployment["spec"]["replica"] = 2

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES[-1], strict=True)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_no_pod_runs_as_root_or_writes_to_its_image(values: dict[str, Any]) -> None:
    for spec in pod_specs(rendered(values)).values():
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_service_cannot_overwrite_a_setting_by_its_links() -> None:
    assert all(
        spec["enableServiceLinks"] is False for spec in pod_specs(rendered({}, name="semblance")).values()
    )


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_program_reads_the_environment_the_chart_gives(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = rendered(values)
    data = of_kind(manifests, "ConfigMap")["demo-semblance"]["data"]
    for name, value in data.items():
        assert name.removeprefix("SEMBLANCE_").lower() in Settings.model_fields
        monkeypatch.setenv(name, value)

    settings = Settings()

    assert settings.dicom_port == 11112
    for name, value in values.get("settings", {}).items():
        assert json.loads(settings.model_dump_json(include={name}, exclude_unset=True))[name] == value


def test_database_and_broker_come_from_secrets_that_exist_already() -> None:
    manifests = rendered({"database": {"existingSecret": "pg", "key": "uri"}})

    assert of_kind(manifests, "Secret") == {}
    for deployment in of_kind(manifests, "Deployment").values():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        environment = {each["name"]: each.get("valueFrom") for each in container["env"]}
        assert environment["SEMBLANCE_DATABASE_URL"] == {"secretKeyRef": {"name": "pg", "key": "uri"}}
        assert environment["SEMBLANCE_BROKER_URL"] == {
            "secretKeyRef": {"name": "semblance-broker", "key": "url"}
        }


def test_the_owner_of_the_schema_is_the_migrations_alone() -> None:
    owner = {"existingSecret": "pg-owner", "key": "uri"}
    manifests = rendered({"database": {"owner": owner, "reader": "readers"}})
    (container,) = of_kind(manifests, "Job")["demo-semblance-migration"]["spec"]["template"]["spec"][
        "containers"
    ]
    environment = {each["name"]: each for each in container["env"]}
    assert environment["SEMBLANCE_DATABASE_OWNER_URL"]["valueFrom"] == {
        "secretKeyRef": {"name": "pg-owner", "key": "uri"}
    }
    assert environment["SEMBLANCE_DATABASE_READER"]["value"] == "readers"
    for deployment in of_kind(manifests, "Deployment").values():
        assert "OWNER" not in json.dumps(deployment)
    assert "OWNER" not in json.dumps(of_kind(rendered({}), "Job"))


def test_the_migration_leans_on_nothing_that_the_release_makes() -> None:
    job = of_kind(rendered({}), "Job")["demo-semblance-migration"]
    spec = job["spec"]["template"]["spec"]

    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert "serviceAccountName" not in spec
    assert "envFrom" not in spec["containers"][0]
    assert [volume for volume in spec["volumes"] if "emptyDir" not in volume] == []


def test_the_gpu_worker_asks_for_a_gpu_and_computes_on_it() -> None:
    spec = pod_specs(rendered({}))["demo-semblance-worker-gpu"]
    (container,) = spec["containers"]

    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["resources"]["limits"]["memory"] == "12Gi"
    assert {"name": "SEMBLANCE_DEVICE", "value": "cuda"} in container["env"]


def test_without_gpus_it_computes_on_the_cpu() -> None:
    (container,) = pod_specs(rendered(ON_ONE_MACHINE))["demo-semblance-worker-gpu"]["containers"]

    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert {"name": "SEMBLANCE_DEVICE", "value": "cpu"} in container["env"]


def test_the_api_knows_whom_it_serves() -> None:
    spec = pod_specs(rendered({"api": {"authorisation": {"existingSecret": "clients"}}}))[
        "demo-semblance-api"
    ]
    (container,) = spec["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "fhir-auth"]
    (volume,) = [each for each in spec["volumes"] if each["name"] == "fhir-auth"]

    assert environment["SEMBLANCE_FHIR_AUTH_FILE"].startswith(mount["mountPath"])
    assert mount["readOnly"] is True
    assert volume["secret"] == {"secretName": "clients"}


def test_model_files_of_the_hospital_reach_the_worker_that_needs_them() -> None:
    specs = pod_specs(rendered(PRODUCTION))
    with_models = {
        name: {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}[
            "SEMBLANCE_MODEL_DIR"
        ]
        for name, spec in specs.items()
        if any(volume["name"] == "models" for volume in spec["volumes"])
    }

    assert with_models == {"demo-semblance-worker-gpu": "/var/lib/semblance-models"}


def test_tls_reaches_the_two_processes_that_speak_dicom() -> None:
    specs = pod_specs(rendered(PRODUCTION))
    mounted = {
        name: volume["secret"]["secretName"]
        for name, spec in specs.items()
        for volume in spec["volumes"]
        if volume["name"] == "dicom-tls"
    }
    environment = {
        each["name"]: each.get("value") for each in specs["demo-semblance-node"]["containers"][0]["env"]
    }

    assert mounted == {"demo-semblance-node": "dicom-tls", "demo-semblance-worker-io": "dicom-tls"}
    assert environment["SEMBLANCE_DICOM_TLS_KEY"] == "/etc/semblance/dicom-tls/tls.key"
    assert {name for name in environment if name.startswith("SEMBLANCE_DICOM_TLS_")} == {
        f"SEMBLANCE_{name.upper()}" for name in Settings.model_fields if name.startswith("dicom_tls_")
    }


def test_the_photographs_outlive_the_release() -> None:
    claim = of_kind(rendered({}), "PersistentVolumeClaim")["demo-semblance-store"]

    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert of_kind(rendered(PRODUCTION), "PersistentVolumeClaim") == {}


def test_only_the_two_open_ports_take_connections() -> None:
    policies = of_kind(rendered(PRODUCTION), "NetworkPolicy")

    assert "ingress" not in policies["demo-semblance"]["spec"]
    (dicom,) = policies["demo-semblance-node"]["spec"]["ingress"]
    assert dicom["ports"] == [{"port": "dicom", "protocol": "TCP"}]
    assert {"ipBlock": {"cidr": "10.20.0.0/16"}} in dicom["from"]


def test_an_autoscaled_worker_leaves_its_replicas_to_keda(database_url: str) -> None:
    manifests = rendered(AUTOSCALED)
    scaled = of_kind(manifests, "ScaledObject")

    assert set(scaled) == {f"demo-semblance-worker-{queue}" for queue in ("gpu", "report", "io")}
    with psycopg.connect(database_url) as connection:
        for name, each in scaled.items():
            assert "replicas" not in of_kind(manifests, "Deployment")[name]["spec"]
            (trigger,) = each["spec"]["triggers"]
            assert connection.execute(trigger["metadata"]["query"]).fetchone() == (0,)


@pytest.mark.parametrize(
    "values",
    [
        {"replicaCount": 3},
        {"settings": {"database_url": "postgresql://elsewhere"}},
        {"settings": {"Dicom-Port": 104}},
        {"settings": {"methdo": "symmetry"}},
        {"settings": {"dicom_max_associations": "many"}},
        {"settings": {"log_level": "LOUD"}},
        {"settings": {"destinations": [{"name": "pacs", "hots": "pacs.example"}]}},
        {"image": {"repository": ""}},
        {"api": {"authorisation": {"existingSecret": ""}}},
        {"node": {"service": {"port": 70000}}},
        {"storage": {"size": "much"}},
        {"workers": {"gpu": {"gpus": "two"}}},
        {"database": {"password": "in the clear"}},
    ],
    ids=lambda values: json.dumps(values)[:40],
)
def test_wrong_values_are_refused(values: dict[str, Any]) -> None:
    with Chart.load(CHART) as chart, pytest.raises(helm_python.HelmValuesError):
        chart.validate_schema(values)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_every_process_is_probed_at_its_door_and_none_by_an_ae_title(values: dict[str, Any]) -> None:
    manifests = rendered(values)
    port = of_kind(manifests, "ConfigMap")["demo-semblance"]["data"]["SEMBLANCE_OPERATIONS_PORT"]
    for name, deployment in of_kind(manifests, "Deployment").items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        assert ports["operations"] == int(port), name
        for probe, path in (("startup", "/readyz"), ("readiness", "/readyz"), ("liveness", "/healthz")):
            assert container[f"{probe}Probe"]["httpGet"] == {"path": path, "port": "operations"}
    assert "echoscu" not in json.dumps(manifests)


def test_files_that_settings_name_reach_every_process() -> None:
    for spec in pod_specs(
        [each for each in rendered(WATCHED) if each["kind"] == "Deployment"],
    ).values():
        mounts = {each["name"]: each for each in spec["containers"][0]["volumeMounts"]}
        volumes = {each["name"]: each for each in spec["volumes"]}
        assert mounts["users"] == {"name": "users", "mountPath": "/etc/semblance/users", "readOnly": True}
        assert volumes["users"] == {"name": "users", "secret": {"secretName": "dicom-users"}}
        assert volumes["syslog"] == {"name": "syslog", "configMap": {"name": "syslog-ca"}}


def test_an_image_named_by_digest_is_that_image() -> None:
    images = {spec["containers"][0]["image"] for spec in pod_specs(rendered(WATCHED)).values()}
    assert images == {"semblance@sha256:" + "0f" * 32}


def test_the_operator_gets_monitor_rules_and_dashboard() -> None:
    manifests = rendered(WATCHED)
    (rules,) = of_kind(manifests, "PrometheusRule").values()
    (monitor,) = of_kind(manifests, "PodMonitor").values()

    assert rules["spec"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    assert rules["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": "operations", "interval": "30s"}]
    dashboard = of_kind(manifests, "ConfigMap")["demo-semblance-dashboard"]["data"]["semblance.json"]
    assert json.loads(dashboard) == json.loads((CHART / "files" / "dashboard.json").read_text())
    assert of_kind(rendered({}), "PodMonitor") == of_kind(rendered({}), "PrometheusRule") == {}


def test_metrics_are_for_those_who_watch_alone() -> None:
    policies = of_kind(rendered(WATCHED), "NetworkPolicy")
    (opening,) = policies["demo-semblance-operations"]["spec"]["ingress"]

    assert opening["ports"] == [{"port": "operations", "protocol": "TCP"}]
    assert opening["from"] == WATCHED["networkPolicy"]["monitoringFrom"]
    assert "demo-semblance-operations" not in of_kind(rendered({}), "NetworkPolicy")


def test_an_ingress_needs_a_host() -> None:
    with Chart.load(CHART) as chart, pytest.raises(helm_python.HelmRenderError, match=r"api\.ingress\.host"):
        chart.render({"api": {"ingress": {"enabled": True}}})
