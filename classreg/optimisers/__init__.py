"""Optimisers. One protocol:

    needs                                    what the other parts must offer: {"gradient"}, {"smooth"}, {"curvature"},
                                             or {"curvature", "product"}: that of a deformation, as an operator
    init(objective, theta) -> state          at the start of a level
    step(objective, theta, state) -> theta   state.value, state.terms, state.step, state.done are then up to date

    finish(objective, theta, state) -> theta where there is one: what a level returns, instead of state.best

A theta that the objective has seen is not written to again while a later step may come back to it. All find their step
length themselves, in mm of motion. A state keeps the best theta seen. Those that declare
`stochastic` call `objective.draw()` for other samples; values before and after do not compare.
"""

from .adam import Adam
from .asgd import ASGD
from .descent import Descent
from .gauss_newton import GaussNewton
from .greedy import Greedy
from .lbfgs import LBFGS
from .newton_cg import NewtonCG

OPTIMISERS = {"gauss_newton": GaussNewton, "newton_cg": NewtonCG, "lbfgs": LBFGS, "descent": Descent,
              "adam": Adam, "asgd": ASGD, "greedy": Greedy}
