"""The libraries that tests and benchmarks compare with can be imported together with ours."""

import pytest


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("torchmetrics.functional", "accuracy"),
        ("pytorch_metric_learning.losses", "TripletMarginLoss"),
        ("segmentation_models_pytorch", "Unet"),
    ],
)
def test_a_peer_is_there(peer, name, attribute):
    assert hasattr(peer(name), attribute)
