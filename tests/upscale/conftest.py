"""Engines by precision."""

from dataclasses import replace

import pytest

from app.inference.engine import Engine
from app.inference.zoo import load_zoo
from app.threads import usable_cores
from harness import MODELS


@pytest.fixture(scope="session")
def int8_engine() -> Engine:
    """Every shipped network that has an int8 file, run by that."""
    zoo = load_zoo(MODELS)
    specs = tuple(spec for spec in zoo if "int8" in spec.files)
    return Engine(replace(zoo, models=specs, generators=()), "cpu", usable_cores(), "int8")


@pytest.fixture(scope="session")
def engine_of(engine: Engine, int8_engine: Engine) -> dict[str, Engine]:
    """By precision."""
    return {"fp32": engine, "int8": int8_engine}
