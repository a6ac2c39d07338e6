"""Generated images with a known truth.

Must not import: faces (cli, plot, report).
"""

from .phantom import LABELS, Pair, TrueMap, head_phantom

__all__ = ["LABELS", "Pair", "TrueMap", "head_phantom"]
