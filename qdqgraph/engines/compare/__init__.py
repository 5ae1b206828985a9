"""Compares two engines, and sums what one engine stores between kernels."""
