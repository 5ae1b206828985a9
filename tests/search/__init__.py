"""Tests of the search for placements."""
