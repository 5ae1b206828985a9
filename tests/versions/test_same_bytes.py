"""The lowest and the current versions of the dependencies give the same files: `make test-lowest`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from tests.support.paths import ROOT

OTHER = os.environ.get("QDQGRAPH_OTHER", "")
"""The Python of the other environment, relative to the checkout."""
REFUSED = "ModelError"


def _digests(python: str, *arguments: str) -> dict[str, str]:
    command = [python, "-m", "tests.versions.outputs", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(run.stdout)
    return found


@pytest.mark.skipif(not OTHER, reason="there is no other environment; make test-lowest sets QDQGRAPH_OTHER")
def test_both_ends_of_the_versions_give_the_same_bytes(tmp_path: Path) -> None:
    theirs = _digests(str(ROOT / OTHER), "--write", str(tmp_path))
    ours = _digests(sys.executable, str(tmp_path))
    newer = {path.stem for path in tmp_path.glob("*.onnx") if onnx.load(path).ir_version > onnx.IR_VERSION}
    for name in sorted(newer):
        assert ours.pop(name) == REFUSED, "a model that this onnx is too old for"
        theirs.pop(name)
    assert ours == theirs and len(ours) > 250 and sum(len(digest) == 64 for digest in ours.values()) > 0.9 * len(ours)
