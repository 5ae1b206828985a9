"""How two engines differ, and what one stores between kernels."""
