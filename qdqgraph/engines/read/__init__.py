"""Engines that trtexec exported or qdqgraph saved."""
