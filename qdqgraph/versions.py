"""What the oldest supported Python lacks: `tomllib`, which is the package tomli before Python 3.11."""

import sys

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["tomllib"]
