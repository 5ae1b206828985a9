"""Programs that write pages of the documentation from the code, and the hook of the site: `python -m docs.generate`."""
