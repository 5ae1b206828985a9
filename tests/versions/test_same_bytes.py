"""The lowest and the current versions of the dependencies give the same files: `make test-lowest`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.paths import ROOT

OTHER = os.environ.get("QDQGRAPH_OTHER", "")
"""The Python of the other environment, relative to the checkout."""
NEWER = ("case 03-fp8-", "case 31-bf16")
"""Graphs with types that onnx 1.18 cannot read, which is refused."""


def _digests(python: str, *arguments: str) -> dict[str, str]:
    command = [python, "-m", "tests.versions.outputs", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(run.stdout)
    return found


@pytest.mark.skipif(not OTHER, reason="there is no other environment; make test-lowest sets QDQGRAPH_OTHER")
def test_both_ends_of_the_versions_give_the_same_bytes(tmp_path: Path) -> None:
    write = "from pathlib import Path; from tests.versions.outputs import write; write(Path(__import__('sys').argv[1]))"
    subprocess.run([ROOT / OTHER, "-c", write, tmp_path], cwd=ROOT, check=True, capture_output=True)
    with ThreadPoolExecutor() as pool:  # one process each
        theirs, ours = pool.map(_digests, (str(ROOT / OTHER), sys.executable), (str(tmp_path), str(tmp_path)))
    for name in [name for name in ours if name.startswith(NEWER)]:
        assert ours.pop(name) in ("GraphError", "ModelError") and len(theirs.pop(name)) == 64
    assert ours == theirs and len(ours) > 250 and sum(len(digest) == 64 for digest in ours.values()) > 0.9 * len(ours)
