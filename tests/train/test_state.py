import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from zoo.train.state import create


class Net(nn.Module):
    norm: bool = True

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.BatchNorm(not train)(x) if self.norm else x
        return nn.Dense(3)(x)


def make(seed=0, *, norm=True, ema=True):
    return create(Net(norm), (jnp.ones((1, 2)),), optax.adam(0.1), seed=seed, ema=ema)


def test_the_start_is_what_linen_draws_from_the_seed():
    want = Net().init(jax.random.key(7), jnp.ones((1, 2)))
    state = make(7)
    assert state.step == 0 and state.step.dtype == jnp.int32
    kernel, wanted = (tree["Dense_0"]["kernel"] for tree in (state.params, want["params"]))
    np.testing.assert_allclose(kernel, wanted, rtol=1e-5)  # Compiled otherwise than op by op.
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, want["batch_stats"])
    other = make(8)
    assert not np.array_equal(other.params["Dense_0"]["kernel"], state.params["Dense_0"]["kernel"])


def test_the_average_begins_as_a_copy_in_memory_of_its_own():
    state = make()
    jax.tree.map(np.testing.assert_array_equal, state.ema, state.params)
    kernel, average = (tree["Dense_0"]["kernel"] for tree in (state.params, state.ema))
    assert kernel.unsafe_buffer_pointer() != average.unsafe_buffer_pointer()


def test_variables_are_the_averages_where_they_are_kept():
    state = make().replace(ema="averages")
    assert state.variables() == {"params": "averages", "batch_stats": state.batch_stats}
    plain = make(norm=False, ema=False)
    assert plain.ema is None and plain.batch_stats == {}
    assert plain.variables() == {"params": plain.params}
