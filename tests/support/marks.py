"""The mark by which a run on data recognizes its own result."""

from __future__ import annotations

import onnx

from qdqgraph.repair.mark import RESULT


def unmarked(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the mark: a run on it repairs, and does not recognize its result."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    kept = [entry for entry in found.metadata_props if entry.key != RESULT]
    assert len(kept) < len(found.metadata_props)
    del found.metadata_props[:]
    found.metadata_props.extend(kept)
    return found
