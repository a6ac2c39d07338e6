"""What an optimiser carries from step to step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class State:
    """Where an optimiser stands.

    Attributes
    ----------
    value, terms
        Of the objective at the current theta.
    step : float
        How far the last step moved points, mm.
    done : str
        Why there is nothing left to do; empty while there is.
    best, best_value
        The best theta seen on this level (the start counts) and its value.
    """

    value: float
    terms: dict[str, float]
    best: np.ndarray
    best_value: float
    step: float = 0.0
    done: str = ""
    memory: dict[str, Any] = field(default_factory=dict)

    def accept(self, theta: np.ndarray, evaluation) -> None:
        """Take an evaluation as current and best: it decreased the value under the weight held during its step.

        Values before and after the weight was renewed do not compare.
        """
        self.value, self.terms = evaluation.value, evaluation.terms
        self.best, self.best_value = theta, evaluation.value

    def keep(self, theta: np.ndarray, evaluation) -> None:
        """Take an evaluation as current, and as the best if it is."""
        self.value, self.terms = evaluation.value, evaluation.terms
        if evaluation.value < self.best_value:
            self.best, self.best_value = theta, evaluation.value


def resumed(optimiser, objective, theta: np.ndarray, state: State) -> State:
    """The state after the objective has become another at theta: begun anew, but for what the optimiser `carries`."""
    new = optimiser.init(objective, theta)
    new.step = state.step
    for name in getattr(optimiser, "carries", ()):
        if name in state.memory and name in new.memory:
            new.memory[name] = state.memory[name]
    return new
