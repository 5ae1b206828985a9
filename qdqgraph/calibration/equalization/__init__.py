"""Cross-layer equalization: moves factors of channels from one layer with weights into the next one."""
