"""What a figure was measured on: the processor, and which of the instructions that matter to networks it has."""

from pathlib import Path

INSTRUCTIONS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx512_bf16": "BF16", "amx_bf16": "AMX"}


def machine() -> str:
    """For example ``AMD EPYC (AVX2, AVX-512, VNNI, BF16)``; nothing is known where there is no ``/proc/cpuinfo``."""
    try:
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    except OSError:
        return "an unknown processor"
    told = {key.strip(): value.strip() for key, _, value in lines}
    flags = set(told.get("flags", "").split())
    known = ", ".join(name for flag, name in INSTRUCTIONS.items() if flag in flags)
    return f"{told.get('model name', 'an unknown processor')} ({known})"
