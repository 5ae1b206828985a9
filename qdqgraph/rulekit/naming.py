"""How codes, names and quantized operators of rules are written, as regular expressions."""

CODE = r"[A-Z]{2,8}[1-4][0-9]{2}"
"""Letters, a band from 1 to 4, two digits: "MY201"."""
NAME = r"[a-z0-9]+(-[a-z0-9]+)*"
"""Lower-case words joined by hyphens: "repeated-pair"."""
OPERATOR = r"([A-Za-z0-9_*?]+\.)*[A-Za-z0-9_*?]+"
"""An entry of `Rule.quantized`: an operator of one domain or of any, with globs."""
