"""Pictures of whole networks and engines, for `draw` and `engine draw`: SVG, or DOT for Graphviz."""
