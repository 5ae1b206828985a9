"""The report: one HTML file that opens from disk, without a network.

`data` is what the page shows; `pages`, `repairs` and `measured` build it from the results of the API, and `render` puts
it into the template with the scripts and styles of `assets`.
"""
