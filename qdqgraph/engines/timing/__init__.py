"""Estimated times of kernels: the work of each, devices by their datasheets, and shares of these fitted to profiles."""
