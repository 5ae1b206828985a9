"""The search for the fastest placement within an accuracy budget: decisions, their measurement, trials, the front."""
