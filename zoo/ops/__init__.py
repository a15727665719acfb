"""Pure functions of arrays. They know nothing of the rest of zoo."""

from zoo.ops.crop import centre_crop
from zoo.ops.distance import pairwise_squared_distance, safe_sqrt
from zoo.ops.pool import max_pool_2x2
from zoo.ops.resize import resize_logits
from zoo.ops.upsample import depth_to_space

__all__ = [
    "centre_crop", "depth_to_space", "max_pool_2x2", "pairwise_squared_distance", "resize_logits",
    "safe_sqrt",
]  # fmt: skip
