"""Pure functions of arrays. They know nothing of the rest of zoo."""

from zoo.ops.crop import centre_crop
from zoo.ops.distance import pairwise_squared_distance, safe_sqrt
from zoo.ops.normalize import mean_and_var, scale_shift
from zoo.ops.orientations import oriented_gradients
from zoo.ops.pool import max_pool, max_pool_2x2, max_pool_with_indices, max_unpool
from zoo.ops.resize import resize_logits
from zoo.ops.upsample import bilinear_at, conv_transpose, upsample_bilinear, upsample_nearest

__all__ = [
    "bilinear_at", "centre_crop", "conv_transpose", "max_pool", "max_pool_2x2",
    "max_pool_with_indices", "max_unpool", "mean_and_var", "oriented_gradients",
    "pairwise_squared_distance", "resize_logits", "safe_sqrt", "scale_shift", "upsample_bilinear",
    "upsample_nearest",
]  # fmt: skip
