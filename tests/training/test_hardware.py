"""A run notes the machines it was on."""

from pathlib import Path

import pytest
import torch

from app.threads import usable_cores
from training import hardware


def test_a_run_notes_each_machine_once_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hardware.machines(tmp_path) == []
    for name in ("one", "one", "another", "one"):
        monkeypatch.setattr(hardware, "machine", lambda name=name: name)
        hardware.note_machine(tmp_path)
    assert hardware.machines(tmp_path) == ["one", "another"]


def test_a_processor_is_called_by_its_cores_and_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: A CPU: model 7\nprocessor\t: 1\nmodel name\t: A CPU: model 7\n")
    monkeypatch.setattr(hardware, "CPU_INFO", info)
    assert hardware.processor().endswith(" of A CPU: model 7")
    assert hardware.processor().startswith(f"{usable_cores()} core")
    monkeypatch.setattr(hardware, "CPU_INFO", tmp_path / "none")
    assert hardware.cpu_name()


@pytest.mark.parametrize(("capability", "expected"), [("AVX2", False), ("DEFAULT", False), ("AVX512", True)])
def test_bfloat16_is_for_cpus_that_have_it(capability: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert hardware.computes_bf16(torch.device("cpu")) is expected
