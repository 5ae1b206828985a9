"""Fourteen hand-written pairs of quantizers and the rule file that says the same."""

from tests.support.paths import ROOT

MANUAL = ROOT / "samples" / "manual_ties.toml"
BACKBONE = "model.img_backbone.stage"
PAIRS = [
    ("model.img_neck.top_down_layers.0.main_conv.conv", "model.img_neck.bottom_up_layers.1.main_conv.conv"),
    ("model.img_neck.top_down_layers.0.main_conv.conv", "model.det2d_neck.bottom_up_layers.1.main_conv.conv"),
    ("model.img_neck.top_down_layers.1.main_conv.conv", "model.img_neck.bottom_up_layers.0.main_conv.conv"),
    ("model.det2d_neck.bottom_up_layers.0.main_conv.conv", "model.det2d_neck.top_down_layers.1.main_conv.conv"),
    *((f"{BACKBONE}{i}.1.final_conv.conv", f"{BACKBONE}{i}.1.oneop") for i in (1, 2, 3, 4)),
    *(
        (f"{BACKBONE}{i}.1.final_conv.conv", f"{BACKBONE}{i}.1.blocks.{j}.addop")
        for i, j in ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0))
    ),
]
"""The script's lines: each lets the second quantizer share the first one's scale."""
