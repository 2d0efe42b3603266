"""What `kubectl apply -k` would send, resolved here without kubectl: valid by the API's schemas, and consistent."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.settings import Settings, nested, variables
from harness import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
SCHEMAS = "1.31"  # HPA v2, PDB v1 and PodSecurity have been stable for years: any later cluster takes them
CUSTOM = {("monitoring.coreos.com/v1", "ServiceMonitor")}  # not of Kubernetes itself
MERGE_KEYS = {"containers": "name", "volumes": "name", "env": "name", "ports": "containerPort"}
UNITS = {"Mi": 2**20, "Gi": 2**30}

Resource = dict[str, Any]


def documents(path: Path) -> list[Resource]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def merge(target: Any, patch: Any, key: str = "") -> Any:
    """A strategic merge as far as it is needed here: maps merge, lists with a merge key too, all else is replaced."""
    if isinstance(target, dict) and isinstance(patch, dict):
        merged = {name: merge(target.get(name), value, name) for name, value in patch.items()}
        return {**target, **merged}
    if isinstance(target, list) and isinstance(patch, list) and key in MERGE_KEYS:
        by = MERGE_KEYS[key]
        patches = {item[by]: item for item in patch}
        merged_items = [merge(item, patches.pop(item[by], item)) for item in target]
        return merged_items + list(patches.values())
    return patch


def identity(resource: Resource) -> tuple[str, str, str]:
    return resource["apiVersion"], resource["kind"], resource["metadata"]["name"]


def build(folder: Path) -> list[Resource]:
    """The resources of a kustomization."""
    (kustomization,) = documents(folder / "kustomization.yaml")
    known = {"apiVersion", "kind", "resources", "namespace", "images", "patches"}
    assert set(kustomization) <= known, "this resolver does not know all of its fields"
    resources: list[Resource] = []
    for name in kustomization["resources"]:
        path = folder / name
        assert path.exists(), f"{path} is missing"
        resources += build(path) if path.is_dir() else documents(path)
    for each in kustomization.get("patches", []):
        for patch in documents(folder / each["path"]):
            targets = [index for index, resource in enumerate(resources) if identity(resource) == identity(patch)]
            assert len(targets) == 1, f"the patch of {identity(patch)} has {len(targets)} targets"
            resources[targets[0]] = merge(resources[targets[0]], patch)
    for image in kustomization.get("images", []):
        pods = [each["spec"]["template"]["spec"] for each in resources if each["kind"] == "Deployment"]
        used = [container for pod in pods for container in pod["containers"] if container["image"] == image["name"]]
        assert used, f"no container has the image {image['name']}"
        for container in used:
            container["image"] = f"{image['newName']}:{image['newTag']}"
    if "namespace" in kustomization:
        for resource in resources:
            if resource["kind"] != "Namespace":
                resource["metadata"]["namespace"] = kustomization["namespace"]
    return resources


def pod(resources: list[Resource]) -> Resource:
    (deployment,) = (r for r in resources if r["kind"] == "Deployment")
    spec: Resource = deployment["spec"]["template"]["spec"]
    return spec


def containers(resources: list[Resource]) -> list[Resource]:
    found: list[Resource] = pod(resources)["containers"]
    return found


def find(resources: list[Resource], kind: str) -> Resource:
    (resource,) = (r for r in resources if r["kind"] == kind)
    return resource


def amount(text: str) -> int:
    return int(text[:-2]) * UNITS[text[-2:]]


@pytest.fixture(params=["cpu", "gpu"])
def overlay(request: pytest.FixtureRequest) -> list[Resource]:
    return build(KUBERNETES / "overlays" / request.param)


def test_every_resource_is_valid(overlay: list[Resource]) -> None:
    for resource in overlay:
        if identity(resource)[:2] not in CUSTOM:
            kubernetes_validate.validate(resource, SCHEMAS, strict=True)


def test_the_schemas_would_find_a_mistake(overlay: list[Resource]) -> None:
    deployment = find(overlay, "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, SCHEMAS, strict=True)


def test_everything_is_there_and_in_one_namespace(overlay: list[Resource]) -> None:
    assert sorted(r["kind"] for r in overlay) == [
        "Deployment",
        "HorizontalPodAutoscaler",
        "Namespace",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceMonitor",
    ]
    assert {r["metadata"].get("namespace", "enlarger") for r in overlay} == {
        find(overlay, "Namespace")["metadata"]["name"]
    }


def test_selectors_find_what_they_mean(overlay: list[Resource]) -> None:
    deployment, service, monitor = (find(overlay, kind) for kind in ("Deployment", "Service", "ServiceMonitor"))
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert service["spec"]["selector"].items() <= labels.items()
    assert find(overlay, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert find(overlay, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    target = find(overlay, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["apiVersion"], target["kind"], target["name"]) == identity(deployment)


def test_ports_and_paths_are_the_services(overlay: list[Resource]) -> None:
    (container,) = containers(overlay)
    ports = {port["name"] for port in container["ports"]}
    (service_port,) = find(overlay, "Service")["spec"]["ports"]
    assert service_port["targetPort"] in ports
    (endpoint,) = find(overlay, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["port"] == service_port["name"]
    assert endpoint["path"] == "/metrics"
    (rule,) = find(overlay, "NetworkPolicy")["spec"]["ingress"]
    assert {port["port"] for port in rule["ports"]} == ports
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
    assert [probe["path"] for probe in probes] == ["/readyz", "/readyz", "/healthz"]
    assert {probe["port"] for probe in probes} <= ports


def settings_of(container: Resource) -> Settings:
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    assert set(given) <= set(variables()), "a variable that the service does not read"
    return Settings(**nested(given))


def test_the_memory_suffices_for_the_worst(overlay: list[Resource]) -> None:
    (container,) = containers(overlay)
    assert settings_of(container).most_bytes < amount(container["resources"]["limits"]["memory"])


def test_the_times_of_a_shutdown_fit(overlay: list[Resource]) -> None:
    (container,) = containers(overlay)
    settings = settings_of(container)
    pre_stop = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    readiness = container["readinessProbe"]
    noticed_after = readiness["periodSeconds"] * readiness["failureThreshold"] + readiness["timeoutSeconds"]
    assert settings.drain_delay_seconds >= noticed_after
    grace = pod(overlay)["terminationGracePeriodSeconds"]
    assert grace > pre_stop + settings.drain_delay_seconds + settings.drain_seconds
    queue = find(overlay, "HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]
    assert queue["metric"]["name"] == "enlarger_queue_seconds"
    assert float(queue["target"]["averageValue"]) < settings.max_queue_seconds


def test_nothing_may_be_written_but_tmp(overlay: list[Resource]) -> None:
    (container,) = containers(overlay)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod(overlay)["securityContext"]["runAsNonRoot"] is True
    (mount,) = container["volumeMounts"]
    assert mount["mountPath"] == "/tmp"
    assert mount["name"] in {volume["name"] for volume in pod(overlay)["volumes"]}
    limits, requests = container["resources"]["limits"], container["resources"]["requests"]
    assert amount(requests["memory"]) <= amount(limits["memory"])


def test_the_overlays_differ_in_image_and_gpu() -> None:
    (cpu,), (gpu,) = (containers(build(KUBERNETES / "overlays" / name)) for name in ("cpu", "gpu"))
    assert (cpu["image"], gpu["image"]) == ("enlarger:cpu", "enlarger:cuda")
    assert "nvidia.com/gpu" not in cpu["resources"]["limits"]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert gpu["env"] == cpu["env"]
