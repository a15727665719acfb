"""Small patch classifiers of every kind, for tests of `zoo.models.PatchClassifier`."""

import pytest

from zoo.models import PatchClassifier

NETS = {
    "odd": PatchClassifier(3, window=15, kernels=(4, 3), width=4, hidden=6),
    "even": PatchClassifier(2, window=12, kernels=(3, 2), width=4, hidden=6),
    "deep": PatchClassifier(2, window=17, kernels=(2, 3, 2), width=4, hidden=6),  # Leaves a pixel.
    "full": PatchClassifier(3, window=7, kernels=(3, 3, 3), width=4, hidden=6, pool=1),
    "thirds": PatchClassifier(2, window=17, kernels=(3, 3), width=4, hidden=6, pool=3),
}
every = pytest.mark.parametrize("model", NETS.values(), ids=NETS)
