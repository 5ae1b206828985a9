"""Proposals of rules, and functions that create them."""
