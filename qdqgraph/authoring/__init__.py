"""Tools for rule authors: the test harness, `why`, and the templates of new rules."""
