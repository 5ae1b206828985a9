"""Where tests find files."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""
PACKAGE = ROOT / "qdqgraph"
"""The package's source."""
DATA = ROOT / "tests" / "data"
"""Recorded outputs of real engines."""
SHARED = ROOT.parent / "shared"
"""Material from outside the repository; a test that reads it skips where it is absent."""
NVIDIA = SHARED / "data" / "nvidia-engines"
"""Whole engines that NVIDIA built; tests/data has a part of them."""
