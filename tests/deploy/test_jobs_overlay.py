"""The deployment with jobs: valid by the schemas, and what it names is what the service reads and keeps."""

from typing import Any

import kubernetes_validate
import psycopg
import pytest
import yaml

from app.jobs.book import Book
from app.jobs.records import UPLOAD, JobSpec, new_id
from app.settings import Settings, nested, variables
from harness import ROOT
from harness.postgres import Postgres
from tests.deploy.test_kubernetes import KUBERNETES, SCHEMAS, Resource, amount, build, documents

CREDENTIALS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
KEDA = "keda.sh/v1alpha1"


@pytest.fixture
def overlay() -> list[Resource]:
    return build(KUBERNETES / "overlays" / "jobs")


def named(resources: list[Resource], kind: str, name: str) -> Resource:
    (found,) = (each for each in resources if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def container_of(deployment: Resource) -> Resource:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container


def test_every_resource_is_valid(overlay: list[Resource]) -> None:
    (job,) = documents(KUBERNETES / "bucket-job.yaml")
    for resource in [*overlay, job]:
        if not resource["apiVersion"].startswith(("keda.sh/", "monitoring.coreos.com/")):
            kubernetes_validate.validate(resource, SCHEMAS, strict=True)


def test_both_deployments_read_what_the_service_knows_and_secrets_from_the_secret(overlay: list[Resource]) -> None:
    known = set(variables()) | CREDENTIALS
    for name in ("enlarger", "enlarger-workers"):
        container = container_of(named(overlay, "Deployment", name))
        assert container["image"] == "enlarger:cpu"
        given = {each["name"]: each for each in container["env"]}
        assert set(given) <= known
        for secret in ("ENLARGER_JOBS", *CREDENTIALS):
            assert given[secret]["valueFrom"]["secretKeyRef"]["name"] == "enlarger-jobs"
        plain = {each: entry["value"] for each, entry in given.items() if "value" in entry}
        settings = Settings(**nested(plain))
        assert settings.jobs.buckets == ("s3://in/", "s3://out/")
        assert settings.most_bytes < amount(container["resources"]["limits"]["memory"])


def test_the_workers_get_no_requests_and_each_deployment_has_one_scaler(overlay: list[Resource]) -> None:
    workers = named(overlay, "Deployment", "enlarger-workers")
    labels = workers["spec"]["template"]["metadata"]["labels"]
    assert workers["spec"]["selector"]["matchLabels"] == labels
    (service,) = (each for each in overlay if each["kind"] == "Service")
    assert not service["spec"]["selector"].items() <= labels.items()
    policy = named(overlay, "NetworkPolicy", "enlarger-jobs")
    (selected,) = policy["spec"]["podSelector"]["matchExpressions"]
    assert set(labels.values()) <= set(selected["values"])
    (hpa,) = (each for each in overlay if each["kind"] == "HorizontalPodAutoscaler")
    scaled = named(overlay, "ScaledObject", "enlarger-workers")
    targets = [hpa["spec"]["scaleTargetRef"]["name"], scaled["spec"]["scaleTargetRef"]["name"]]
    assert sorted(targets) == ["enlarger", "enlarger-workers"]
    assert scaled["spec"]["minReplicaCount"] == 0
    (trigger,) = scaled["spec"]["triggers"]
    authentication = named(overlay, "TriggerAuthentication", trigger["authenticationRef"]["name"])
    (parameter,) = authentication["spec"]["secretTargetRef"]
    assert (parameter["parameter"], parameter["key"]) == ("connection", "database")


def test_the_scalers_query_sums_the_seconds_that_are_queued(overlay: list[Resource], postgres: Postgres) -> None:
    (trigger,) = named(overlay, "ScaledObject", "enlarger-workers")["spec"]["triggers"]
    url = postgres.url()
    book = Book(url)
    for seconds in (1.5, 2.5, None):
        book.enqueue(new_id(), "me", JobSpec(UPLOAD, {}, seconds=seconds))
    canceled = book.enqueue(new_id(), "me", JobSpec(UPLOAD, {}, seconds=100))
    book.cancel(canceled)
    book.close()
    with psycopg.connect(url) as connection:
        (row,) = connection.execute(trigger["metadata"]["query"]).fetchall()
    assert row == (5.0,)


def test_the_compose_file_names_settings_services_and_pinned_images() -> None:
    base: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    jobs: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.jobs.yml").read_text())
    known = set(variables())
    aws = {"AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", "AWS_REGION", *CREDENTIALS}
    for name in ("cpu", "gpu"):
        assert name in base["services"]
        service = jobs["services"][name]
        assert set(service["environment"]) <= known | aws
        assert set(service["depends_on"]) <= set(jobs["services"])
    assert jobs["services"]["cpu"]["deploy"]["replicas"] == "${REPLICAS:-3}"
    for name in set(jobs["services"]) - set(base["services"]):
        assert jobs["services"][name]["image"].rpartition(":")[2][:1].isdigit()
    text = (ROOT / "docker-compose.jobs.yml").read_text()
    assert text.count("PASSWORD:?") == text.count("PASSWORD:?}") == 2
