"""Sample networks, their quantization, and the demo. Not part of the installed package."""
