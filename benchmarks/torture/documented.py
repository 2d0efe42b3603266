"""Promise 2: whatever is refused is in the OpenAPI document, by status and code."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from benchmarks.torture.attacks import attacks
from benchmarks.torture.hostile import assault
from benchmarks.torture.result import Result
from harness.server import Server, quick_server

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


def schemathesis(server: Server, examples: int, seed: int) -> tuple[int, str]:
    """Its exit status, 0 if it found nothing, and what it said; from the very document the server gives."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/openapi.json"]
    command += ["--checks", ",".join(CHECKS), "--max-examples", str(examples), "--seed", str(seed)]
    command += ["--phases", "examples,coverage,fuzzing", "--suppress-health-check", "all", "--no-color"]
    run = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=3600)
    return run.returncode, run.stdout + run.stderr


def undocumented(document: dict[str, Any], answers: Counter[tuple[int, str]]) -> list[str]:
    """Answers of ``POST /upscale`` that its part of the document does not list."""
    listed = document["paths"]["/upscale"]["post"]["responses"]
    missing = []
    for status, code in answers:
        if status < 400:
            continue
        content = listed.get(str(status), {}).get("content", {})
        if code not in content.get("application/problem+json", {}).get("examples", {}):
            missing.append(f"{status} {code or 'without a code'}")
    return missing


def measure(inputs: int, examples: int, seed: int = 2) -> Result:
    with quick_server() as server:
        document = httpx.get(f"{server.url}/openapi.json").json()
        answers = assault(server, attacks(inputs, seed)).answers
        missing = undocumented(document, answers)
        status, said = schemathesis(server, examples, seed)
        alive = server.process.poll() is None
    cases = re.search(r"([\d,]+) generated", said)
    refusals = len({answer for answer in answers if answer[0] >= 400})
    figure = (
        f"{inputs:,} hostile inputs met {refusals} different refusals, {len(missing)} not in the document; "
        f"schemathesis: {cases.group(1) if cases else '?'} cases, {'nothing found' if status == 0 else 'findings'}"
    )
    details: dict[str, object] = {"missing": missing, "schemathesis": said[-6000:]}
    kept = alive and not missing and status == 0
    return Result(2, "every 4xx and 5xx is in the OpenAPI document", figure, kept, details)
