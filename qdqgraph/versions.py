"""What the oldest supported Python lacks: `tomllib` and `Unpack`, which packages have before Python 3.11."""

import sys

if sys.version_info >= (3, 11):
    from typing import Unpack

    import tomllib
else:
    import tomli as tomllib
    from typing_extensions import Unpack

__all__ = ["Unpack", "tomllib"]
