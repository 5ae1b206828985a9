"""`Statistics`: ranges and histograms of the sites of one float network on one set of samples, and their file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import CalibrationError, reason
from ...model import kinds
from ...model.recognized import mistaken
from ...model.writing.texts import write_file
from ..data.archives import FAULTS
from .spread import BINS, Spread

FORMAT = 1
"""The version of the file format."""
LARGEST = 4 << 30
"""The most bytes of a file's arrays: 64 KiB for each of 65,536 tensors."""


@dataclass(frozen=True, eq=False)
class Statistics(Mapping[str, Spread]):
    """What data show of a float network: site name → values of that tensor.

    Attributes:
        spreads: the values of each measured tensor, by name; `measure` may count some of them on request only.
        amax: the largest magnitude of each measured tensor, by name.
        network: the digest of the float network, `FloatModel.digest`.
        data: the digest of the samples.
        samples: number of samples.
        description: what was done to the samples, for people.
    """

    spreads: Mapping[str, Spread]
    amax: Mapping[str, float]
    network: str
    data: str
    samples: int
    description: str = ""

    def __getitem__(self, site: str) -> Spread:
        return self.spreads[site]

    def __contains__(self, site: object) -> bool:
        return site in self.amax  # asking for the values may count them

    def counted(self, site: str) -> Spread | None:
        """The values of a tensor if they are counted already; None otherwise."""
        known = site in self.spreads  # `get` may count the values of others
        return self.spreads[site] if known else None

    def __iter__(self) -> Iterator[str]:
        return iter(self.spreads)

    def __len__(self) -> int:
        return len(self.spreads)

    def save(self, path: Path) -> None:
        """Writes the statistics to an .npz file, atomically.

        Raises:
            CalibrationError: the file cannot be written.
        """
        distinct = list({id(s): s for s in self.spreads.values()}.values())
        row = {id(spread): index for index, spread in enumerate(distinct)}
        header = {
            "format": FORMAT,
            "network": self.network,
            "data": self.data,
            "samples": self.samples,
            "description": self.description,
            "sites": list(self.spreads),
        }
        arrays: dict[str, Any] = {
            "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
            "rows": np.array([row[id(s)] for s in self.spreads.values()], np.int64),
            "low": np.array([s.low for s in distinct], np.float64),
            "high": np.array([s.high for s in distinct], np.float64),
            "exponent": np.array([s.exponent for s in distinct], np.int64),
            "zeros": np.array([s.zeros for s in distinct], np.int64),
            "broken": np.array([s.broken for s in distinct], np.int64),
            "counts": np.array([s.counts for s in distinct], np.int64).reshape(len(distinct), 2 * BINS),
        }
        try:
            write_file(path, lambda file: np.savez_compressed(file, **arrays))
        except OSError as error:
            raise CalibrationError(f"{path}: cannot be written: {reason(error)}") from error

    @classmethod
    def load(cls, path: Path, *, network: str = "", data: str = "") -> Statistics:
        """Reads the statistics of a file.

        Args:
            path: a file that `save` has written.
            network: the digest of the network that they must be of; "" accepts any.
            data: the digest of the samples that they must be of; "" accepts any.

        Raises:
            CalibrationError: the file cannot be read, is damaged, has another format, or is of another network or
                other samples.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                if sum(member.file_size for member in archive.infolist()) > LARGEST:
                    raise ValueError("too large")
            with path.open("rb") as stored, np.load(stored, allow_pickle=False) as file:
                found = _statistics(file, path)
        except OSError as error:
            raise CalibrationError(f"{path}: cannot be read: {reason(error)}") from error
        except FAULTS as error:
            other = mistaken(path, "a file of statistics", accepts=(kinds.STATISTICS, kinds.DAMAGED_ZIP))
            fault = other or "not a file of statistics, or damaged; measure again"
            raise CalibrationError(f"{path}: {fault}") from error
        if network and found.network != network:
            raise CalibrationError(
                f"{path}: these statistics are of another network; measure this one, and keep it in another file"
            )
        if data and found.data != data:
            raise CalibrationError(
                f"{path}: these statistics are of other samples ({found.samples}: {found.description}); "
                "measure these, and keep them in another file"
            )
        return found


def _statistics(file: Mapping[str, Any], path: Path) -> Statistics:
    header = json.loads(file["header"].tobytes())
    if header["format"] != FORMAT:
        raise CalibrationError(
            f"{path}: statistics of format {header['format']}, and this version of qdqgraph reads {FORMAT}; "
            "measure again into another file"
        )
    counts = file["counts"]
    if counts.shape[1:] != (2 * BINS,):
        raise ValueError("another number of bins")
    columns = zip(*(file[name].tolist() for name in ("low", "high", "exponent")), strict=True)
    integers = zip(*(file[name].tolist() for name in ("zeros", "broken")), strict=True)
    rows = [
        Spread(low, high, exponent, count, zeros, broken)
        for (low, high, exponent), count, (zeros, broken) in zip(columns, counts, integers, strict=True)
    ]
    spreads = {name: rows[index] for name, index in zip(header["sites"], file["rows"].tolist(), strict=True)}
    amax = {name: spread.amax for name, spread in spreads.items()}
    return Statistics(spreads, amax, header["network"], header["data"], header["samples"], header["description"])
