"""Optimisers. One protocol:

    needs                                    {"gradient"}, {"curvature"} or {"smooth"}: what the other parts must offer
    init(objective, theta) -> state          at the start of a level
    step(objective, theta, state) -> theta   state.value, state.terms, state.step, state.done are then up to date

All find their step length themselves, in mm of motion. A state keeps the best theta seen.
"""

from .adam import Adam
from .gauss_newton import GaussNewton
from .greedy import Greedy
from .lbfgs import LBFGS

OPTIMISERS = {"gauss_newton": GaussNewton, "lbfgs": LBFGS, "adam": Adam, "greedy": Greedy}
