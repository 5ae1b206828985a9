"""`Fitted`: scales that a method fits to data, as the solver asks for them (`repair.measured.Measured`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..errors import ModelError
from ..graph.graph import Graph
from ..graph.pair import Pair
from ..log import Progress, log_step
from ..model.corrected import uncorrected
from ..proposals.proposal import SetPair
from .data.samples import Samples
from .few import Few
from .layers.gain import change, output_sqnr
from .layers.least import least_at_layers
from .methods.percentile import DEFAULT_PERCENTILE
from .statistics.floating import float_model
from .statistics.running import DEFAULT_MEMORY
from .statistics.scales import AUTO, Choice, best_scale, chosen, error, widest
from .statistics.spread import Spread
from .statistics.statistics import Statistics
from .weights.fit import fitted_weights

EXACT = 1e-12
"""Squared error relative to the energy up to which rounding counts as exact: values that are multiples of the scale."""
LEAST = 2
"""Samples from which a change has a standard error."""
MOST = 32
"""Samples that scales are compared on, at the layers and the outputs. The scales to compare come from all samples."""
FRACTIONS = (0.5, 0.6, 0.71, 0.85)
"""Scales that `auto` tries at the layers, relative to that of the least squared error."""


class Fitted:
    """Scales for the sites of a Q/DQ graph from the statistics of its float network.

    Args:
        statistics: of the float network.
        samples: the data that the statistics are of; None if they are not at hand, and scales are then not refined.
        names: tensor of the Q/DQ graph → tensor of the float network, for those with another name.
        name: the method, a name of `calibration.methods`, or "auto".
        percentile: for the method percentile, in percent.
        provider: "cpu" or "cuda".
        memory: the limit for the peak resident memory of the process while layers are compared, in bytes.
        progress: called with one line after each sample that layers are compared on.
        choices: scales that replace those of the method, by the sites that share them.
        reference: the values of weights before quantization, by the output of the DequantizeLinear of stored integers.
    """

    def __init__(
        self,
        statistics: Statistics,
        samples: Samples | None,
        names: Mapping[str, str],
        name: str = AUTO,
        percentile: float = DEFAULT_PERCENTILE,
        provider: str = "cpu",
        *,
        memory: int = DEFAULT_MEMORY,
        progress: Progress = log_step,
        choices: Mapping[frozenset[str], Choice] | None = None,
        reference: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.statistics, self.samples, self.name, self.percentile = statistics, samples, name, percentile
        self.provider, self.memory, self.progress = provider, memory, progress
        self._names, self._reference = names, reference or {}
        self._choices: dict[frozenset[str], Choice | None] = dict(choices or {})
        self._least: dict[str, float] = {}
        """The squared error of each tensor at the scale that the method chooses for it alone."""

    def choice(self, sites: Sequence[str]) -> Choice | None:
        """What the method chooses for these sites together; None if none was measured, or all values are zero."""
        known = self._known(sites)
        if known not in self._choices:
            found = self._best(known) if known else None
            self._choices[known] = found if found is not None and found.scale > 0 else None
        return self._choices[known]

    def scale(self, sites: Sequence[str]) -> float | None:
        """The scale of `choice`."""
        found = self.choice(sites)
        return None if found is None else found.scale

    def method(self, sites: Sequence[str]) -> str:
        """The method of `choice`."""
        found = self.choice(sites)
        return "" if found is None else found.method

    @property
    def spreads(self) -> Mapping[str, Spread]:
        """The values of the sites that are counted already, by name."""
        found = self.statistics
        known = {name: spread for name in found.amax if (spread := found.counted(name)) is not None}
        return known | {site: known[name] for site, name in self._names.items() if name in known}

    def weights(self, graph: Graph) -> Iterator[tuple[Pair, SetPair]]:
        """The weight pairs for which the method chooses other scales (see `fitted_weights`)."""
        return fitted_weights(graph, self._reference, self.name)

    def loss(self, site: str, scale: float) -> float:
        """Half the log2 of the growth of the squared error at a site, compared with its own best scale, in bits."""
        best_at_layers = self.choice([site])
        if best_at_layers is None or scale == best_at_layers.scale:
            return 0.0
        spread = self.statistics[self._name(site)]
        if (name := self._name(site)) not in self._least:
            self._least[name] = error(spread, self._best(frozenset((name,))).scale)
        exact, best, found = EXACT * spread.energy(), self._least[name], error(spread, scale)
        return 0.0 if found <= exact else max(0.0, 0.5 * math.log2(found / max(best, exact)))

    def refined(self, graph: Graph, groups: Sequence[Sequence[str]]) -> Fitted:
        """The same with the scales that have the least error at the layers that read the groups.

        Only the method "auto" with samples tries other scales: the largest magnitude, and fractions of its own choice,
        which clip.
        """
        own = {known: found for sites in groups if (found := self.choice(sites)) and (known := self._known(sites))}
        if self.name != AUTO or not own or self.samples is None:
            return self
        sites = {known: [s for each in groups if self._known(each) == known for s in each] for known in own}
        candidates = [self._candidates(known, found) for known, found in own.items()]
        if (original := uncorrected(graph.model, graph.folder)) is not graph.model:
            graph = Graph(original, graph.folder, target=graph.target)
        network = float_model(graph.model, graph.folder)
        scales = [[choice.scale for choice in each] for each in candidates]
        best = least_at_layers(
            graph,
            network,
            list(sites.values()),
            scales,
            Few(self.samples, MOST),
            self.provider,
            memory=self.memory,
            progress=self.progress,
        )
        better = {known: each[index] for known, each, index in zip(own, candidates, best, strict=True) if index}
        return Fitted(
            self.statistics,
            self.samples,
            self._names,
            self.name,
            self.percentile,
            self.provider,
            memory=self.memory,
            progress=self.progress,
            choices=better,
            reference=self._reference,
        )

    def worse(self, before: Graph, after: Graph) -> bool:
        """Whether the mean SQNR of the outputs, over outputs and samples, falls by more than its standard error.

        Layers alone do not show how their errors add up. False if the outputs cannot be compared, or there are fewer
        samples than `LEAST`.
        """
        if self.samples is None or len(self.samples) < LEAST:
            return False
        network = float_model(before.model, before.folder)
        try:  # one after the other: each session has its own memory
            old, new = (
                output_sqnr([graph.model], network, Few(self.samples, MOST), graph.folder, self.provider)[0]
                for graph in (before, after)
            )
        except ModelError:
            return False
        mean, noise = change(old, new)
        return mean < -noise

    @property
    def provenance(self) -> str:
        """Method, samples and digest of the data."""
        found = self.statistics
        return f"{self.name}; {found.samples} samples; sha256 {found.data}"

    def _candidates(self, known: frozenset[str], own: Choice) -> list[Choice]:
        others = [chosen(f"{own.method} x {f:g}", own.scale * f) for f in FRACTIONS]
        return [own, self._widest(known), *others]

    def _best(self, known: frozenset[str]) -> Choice:
        """What the method chooses; max needs no histograms."""
        if self.name == "max":
            return self._widest(known)
        return best_scale(self._spreads(known), self.name, percentile=self.percentile)

    def _widest(self, known: frozenset[str]) -> Choice:
        return widest(max(self.statistics.amax[name] for name in known))

    def _spreads(self, known: frozenset[str]) -> list[Spread]:
        return [self.statistics[name] for name in sorted(known)]

    def _known(self, sites: Sequence[str]) -> frozenset[str]:
        return frozenset(name for site in sites if (name := self._name(site)) in self.statistics)

    def _name(self, site: str) -> str:
        return self._names.get(site, site)
