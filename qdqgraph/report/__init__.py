"""How findings and results are shown. The formats of findings are the modules of `formats`."""
