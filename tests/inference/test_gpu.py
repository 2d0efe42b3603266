"""What only a GPU can show: the shipped networks on CUDA, as exact as on a CPU, in batches, within their memory."""

import numpy as np
import pytest

from app.inference.batching import MOST_WINDOWS
from app.inference.binding import page_lock
from app.inference.engine import Engine
from app.inference.providers import GpuOptions, choose_provider
from app.inference.zoo import load_zoo
from app.threads import usable_cores
from harness import MODELS
from harness.fakes import noise
from harness.pictures import encode
from harness.server import running_server

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(choose_provider("auto") != "cuda", reason="no NVIDIA driver or no CUDA build of ONNX Runtime"),
]
FLOAT32 = 2  # levels of 255 by which TF32 convolutions may differ from a CPU's


@pytest.fixture(scope="module")
def gpu() -> Engine:
    return Engine(load_zoo(MODELS), "cuda", usable_cores())


def test_every_network_is_on_the_gpu_and_near_what_a_cpu_gives(gpu: Engine, engine: Engine, photo: np.ndarray) -> None:
    assert gpu.batch_macs > 0
    for network in gpu.networks.values():
        assert network.provider == "CUDAExecutionProvider"
        assert network.precision == ("fp16" if "fp16" in network.spec.files else "fp32")
        window = photo[50:114, 100:196]
        (here,), (there,) = gpu.run(network.spec, [window]), engine.run(network.spec, [window])
        difference = np.abs(here.astype(int) - there)
        assert difference.max() <= FLOAT32, network.spec.title
        assert (difference > 0).mean() < 0.1, network.spec.title


def test_a_batch_gives_what_its_windows_give_alone(gpu: Engine) -> None:
    for network in gpu.networks.values():
        windows = [noise(64, 64, 3, seed=seed) for seed in range(MOST_WINDOWS)]
        for together, window in zip(gpu.run(network.spec, windows), windows, strict=True):
            assert np.abs(together.astype(int) - gpu.run(network.spec, [window])[0]).max() <= 1


def test_host_buffers_are_page_locked(gpu: Engine) -> None:
    assert gpu.networks, "a session has loaded CUDA"
    assert page_lock(np.empty(2**20, np.uint8))


def test_memory_stays_within_its_limit() -> None:
    limited = Engine(load_zoo(MODELS), "cuda", usable_cores(), gpu=GpuOptions(memory_bytes=2**30))
    assert all(network.provider == "CUDAExecutionProvider" for network in limited.networks.values())


def test_the_service_says_that_it_runs_on_the_gpu(photo: np.ndarray) -> None:
    with running_server(provider="cuda") as server, server.client() as client:
        assert client.get("/readyz").json()["providers"] == ["CUDAExecutionProvider"]
        answer = client.post("/upscale", content=encode(photo))
        assert answer.headers["Enlarger-Provider"] == "CUDAExecutionProvider"
