"""Tools for rule authors: the test harness, `why`, and templates of new rules."""
