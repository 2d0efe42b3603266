"""Fixtures for every test: a real server process on a real port, every shipped network, a real photograph."""

import os
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import skimage.data
from hypothesis import HealthCheck, settings

from app.inference.engine import Engine
from app.inference.zoo import load_zoo
from app.threads import usable_cores
from harness import MODELS
from harness.postgres import Postgres, binaries, running_postgres
from harness.s3 import S3, running_s3
from harness.server import Server, running_server
from tests.support.browser import Browser, running_browser

# How long an example takes depends on who else uses the cores: no property here is about time.
settings.register_profile("enlarger", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("enlarger")

# Which runtime "auto" takes depends on the machine and on what else runs there: tests name the one they mean. Those of
# the choice itself, and of OpenVINO, are in tests/inference.
os.environ.setdefault("ENLARGER_PROVIDER", "cpu")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """With every shipped network."""
    with running_server() as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all: each test opens its page anew."""
    with running_browser(tmp_path_factory.mktemp("downloads")) as running:
        yield running


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Every shipped network, on the CPU of this process."""
    return Engine(load_zoo(MODELS), "cpu", usable_cores())


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A real photograph: uint8 ``[300, 451, 3]``."""
    return skimage.data.chelsea()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; each test asks it for a database of its own."""
    if binaries() is None:
        pytest.skip("there is no PostgreSQL server here; .ci/run installs it")
    with running_postgres(durable=False) as running:
        yield running


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 server; each test makes its own buckets."""
    with running_s3() as running:
        yield running
