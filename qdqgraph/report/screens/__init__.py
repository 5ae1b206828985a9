"""What `check`, `fix` and `quantize` print: one screen of text from a summary, as wide as the terminal, or 80 columns.

`checking` and `fixing` print the summaries of `report.summary`; `layout` has what both share.
"""
