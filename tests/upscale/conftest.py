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
def openvino_engine() -> Engine:
    """Some networks x4 by OpenVINO, in bf16 where the processor computes it."""
    zoo = load_zoo(MODELS)
    specs = tuple(zoo.find(name, 4) for name in ("bicubic", "espcn", "fast", "balanced"))
    return Engine(replace(zoo, models=specs, generators=()), "openvino", usable_cores())


@pytest.fixture(scope="session")
def engine_of(engine: Engine, int8_engine: Engine, openvino_engine: Engine) -> dict[str, Engine]:
    """By precision, or "openvino" in its own."""
    return {"fp32": engine, "int8": int8_engine, "openvino": openvino_engine}
