"""Groups of images that all move to a common space.

    register_group(images, model=..., method=...)   one registration of all of them
    plan_group(images, ...)                         what it would run
    predict(plan, images)                           the memory that takes

Pairs and groups are one engine (`engine.run_group`); here stand only the door, the defaults, and the result.
"""

from .memory import predict
from .register import plan_group, register_group
from .result import GroupResult

__all__ = ["GroupResult", "plan_group", "predict", "register_group"]
