"""What `check` and `fix` tell in one screen, as values; the text, HTML and machine formats print them.

`checking` and `fixing` make the summaries, pure functions of what `api` returns; `outcomes` says what becomes of a
finding, `names` shortens names, `words` writes numbers.
"""
