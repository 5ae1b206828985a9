"""The cost model against engines with profiles: its shares, errors, and the ranking of engines of one network.

    python benchmarks/timing_table.py DEVICE=NETWORK=LAYERS.json,PROFILE.json ...

Prints the shares fitted to all engines, and for each engine its measured time and the estimate by shares fitted to the
other devices; then the pairs of engines of one network and device, and which of them are ranked right.
"""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path

from qdqgraph import api
from qdqgraph.engines.timing.device import Device
from qdqgraph.engines.timing.fit import fitted, layer_error, without
from qdqgraph.engines.timing.roofline import Roofline


def main(arguments: list[str]) -> None:
    """Prints the tables."""
    networks, engines = [], []
    for argument in arguments:
        name, network, files = argument.split("=")
        layers, profile = map(Path, files.split(","))
        engines.append((api.read_engine(layers, profile=profile), Device.named(name)))
        networks.append(network)
    shares = fitted(engines, f"{len(engines)} engines")
    print(f"bandwidth {shares.bandwidth}, peaks {dict(shares.peaks)}, launch {shares.launch_us} us, spread ", end="")
    print(" to ".join(f"{ratio:.2f}" for ratio in shares.spread))
    print("\n| device | network | measured ms | estimate ms | of measured | error a layer | bytes | all shares |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    estimates = []
    for index, (engine, device) in enumerate(engines):
        rest = fitted(without(engines, device), "the other devices")
        own, both = (Roofline(device, s).estimate(engine) for s in (rest, shares))
        real = engine.time_ms or 0.0
        estimates.append((device.name, networks[index], real, own))
        error = layer_error(rest, engine, device)
        print(
            f"| {device.name} | {networks[index]}: {engine.name} | {real:.3f} | {own.ms:.3f} | {own.ms / real:.0%} "
            f"| {error:.0%} | {engine.bytes:,} | {both.ms:.3f} |"
        )
    right = wrong = close = 0
    for (device_a, network_a, real_a, a), (device_b, network_b, real_b, b) in combinations(estimates, 2):
        if (device_a, network_a) != (device_b, network_b):
            continue
        agree = (real_a < real_b) == (a.ms < b.ms)
        right, wrong, close = right + agree, wrong + (not agree), close + a.close_to(b)
        if not agree or a.close_to(b):
            verdict = ("right" if agree else "wrong") + (", called close" if a.close_to(b) else "")
            print(f"\n{verdict}: {a.engine.name} {real_a:.3f} ms, estimate {a.ms:.3f};")
            print(f"  {b.engine.name} {real_b:.3f} ms, estimate {b.ms:.3f}")
    print(f"\npairs ranked right {right}, wrong {wrong}; called too close to rank: {close}")


if __name__ == "__main__":
    main(sys.argv[1:])
