"""Generated heads for tests, each made once: making one takes as long as registering it. Nobody writes into them."""

from __future__ import annotations

from functools import cache

from classreg import datasets

head_phantom = cache(datasets.head_phantom)
