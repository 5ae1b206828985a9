"""The numbers that a forecast engine computes, on a CPU: derived from documents, not verified on a GPU."""
