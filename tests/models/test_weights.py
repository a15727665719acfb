"""Files that PyTorch wrote, read without it; and files that no one should run."""

import collections
import functools
import os
import pickle
import zipfile

import jax
import numpy as np
import pytest

from zoo.models import FCN8s, FCN32s
from zoo.models.fcn import vgg16_params
from zoo.models.weights import load_weights

WIDTH = 2


def network(torch, width=WIDTH, batch_norm=False):
    """torchvision's VGG16 of another width and 5 classes; modules bear torchvision's numbers."""
    nn, layers, channels = torch.nn, [], 3
    for level, n in enumerate((2, 2, 3, 3, 3)):
        for _ in range(n):
            features = width * min(2**level, 8)
            layers.append(nn.Conv2d(channels, features, 3, padding=1))
            layers += [nn.BatchNorm2d(features)] if batch_norm else []
            layers.append(nn.ReLU())
            channels = features
        layers.append(nn.MaxPool2d(2))
    fc = 64 * width
    dense = [nn.Linear(49 * channels, fc), nn.ReLU(), nn.Dropout()]
    dense += [nn.Linear(fc, fc), nn.ReLU(), nn.Dropout(), nn.Linear(fc, 5)]
    net = nn.Module()
    net.features, net.classifier = nn.Sequential(*layers), nn.Sequential(*dense)
    return net.eval()


@pytest.fixture(scope="module")
def vgg(peer):
    """torch, a network of random weights, and its state dict."""
    torch = peer("torch")
    torch.manual_seed(0)
    net = network(torch)
    with torch.no_grad():  # PyTorch's own start lets signals die out on the way.
        for p in net.parameters():
            p.mul_(2.0)
    return torch, net, net.state_dict()


def shapes(model, channels=3):
    image = jax.ShapeDtypeStruct((1, 32, 32, channels), np.float32)
    return jax.eval_shape(model.init, jax.random.key(0), image)["params"]


def test_the_tested_network_is_torchvisions(peer):
    """Names and shapes of the true one, and that a model of the paper's width takes them."""
    torch, torchvision = peer("torch"), peer("torchvision")
    with torch.device("meta"):
        true, ours = torchvision.models.vgg16().state_dict(), network(torch, 64).state_dict()
    true, ours = ({k: tuple(v.shape) for k, v in d.items()} for d in (true, ours))
    last = {name: true.pop(name) for name in ("classifier.6.weight", "classifier.6.bias")}
    assert true == {name: shape for name, shape in ours.items() if name not in last}
    tensors = {name: np.broadcast_to(np.float32(0), shape) for name, shape in (true | last).items()}
    params = shapes(FCN8s(num_classes=21))
    found = vgg16_params(tensors, params)
    assert sum(x.size for x in jax.tree.leaves(found)) == 14_714_688 + 102_764_544 + 16_781_312
    for path, x in jax.tree_util.tree_leaves_with_path(found):
        assert functools.reduce(lambda p, key: p[key.key], path, params).shape == x.shape


@pytest.mark.parametrize("form", ["zip", "stream", "safetensors"])
def test_tensors_equal_torchs(vgg, peer, tmp_path, form):
    torch, _, state = vgg
    state = {**state, "view": torch.arange(12.0).reshape(3, 4)[1:, ::2].T, "n": torch.tensor(7)}
    state["half"] = torch.arange(3.0).half()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        state["view"] = state["view"].contiguous()  # It takes no other.
        peer("safetensors.torch").save_file(state, path, metadata={"format": "pt"})
    else:
        torch.save(
            collections.OrderedDict(state), path, _use_new_zipfile_serialization=form == "zip"
        )
    found = load_weights(path)
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        want = tensor.numpy()
        assert found[name].dtype == want.dtype and found[name].shape == want.shape
        np.testing.assert_array_equal(found[name], want)


def test_the_backbone_equals_torchs(vgg, tmp_path):
    """The score in the middle of 7x7 sees what fc6 of the classifier sees."""
    torch, net, state = vgg
    torch.save(state, tmp_path / "vgg16.pth")
    image = np.random.default_rng(0).normal(size=(2, 224, 224, 3)).astype(np.float32)
    with torch.no_grad():
        pooled = net.features(torch.from_numpy(image).permute(0, 3, 1, 2))
        want = net.classifier(pooled.flatten(1)).numpy()
    model = FCN32s(num_classes=5, width=WIDTH)
    found = model.pretrained(tmp_path / "vgg16.pth", shapes(model))
    last = state["classifier.6.weight"].numpy().T[None, None]
    score = {"kernel": last, "bias": state["classifier.6.bias"].numpy()}

    @jax.jit
    def scores(params):
        kept = {"score_fr": score, "upscore32": {"kernel": np.zeros((64, 64, 5, 5), np.float32)}}
        variables = {"params": {**params, **kept}}
        _, state = model.apply(variables, image, capture_intermediates=True)
        return state["intermediates"]["score_fr"]["__call__"][0][:, 3, 3]

    got = scores(found)
    assert np.abs(want[0] - want[1]).max() > 1e-2 * np.abs(want).max()
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()
    # Each tensor counts: the first and the last of either kind.
    for name in (
        "features.0.bias",
        "features.28.weight",
        "classifier.0.weight",
        "classifier.3.bias",
    ):
        other = {**state, name: state[name] + 0.1}
        torch.save(other, tmp_path / "other.pth")
        changed = scores(model.pretrained(tmp_path / "other.pth", shapes(model)))
        assert np.abs(changed - want).max() > 1e-3 * np.abs(want).max(), name


def test_another_network_is_named(vgg):
    torch, _, state = vgg
    good = {name: tensor.numpy() for name, tensor in state.items()}
    model = FCN32s(num_classes=5, width=WIDTH)

    def refused(tensors, message, model=model, channels=3):
        with pytest.raises(ValueError, match=message):
            vgg16_params(tensors, shapes(model, channels))

    normed = network(torch, batch_norm=True).state_dict()
    refused(
        {name: tensor.numpy() for name, tensor in normed.items()},
        r"features.2.weight is absent in the file and \[2, 2, 3, 3\] in the model",
    )
    refused({"conv1.weight": np.zeros((64, 3, 7, 7))}, "features.0.weight is absent in the file")
    wrong = r"features.0.weight is \[2, 3, 3, 3\] in the file and \[4, 3, 3, 3\] in the model"
    refused(good, wrong, FCN32s(num_classes=5, width=4))
    refused(good, r"features.0.weight is .* and \[2, 1, 3, 3\] in the model", channels=1)
    refused(good | {"features.30.weight": np.zeros(3)}, r"features.30.weight is \[3\] .* absent in")
    refused(
        {k: v for k, v in good.items() if k != "classifier.3.bias"}, "classifier.3.bias is absent"
    )
    turned = good["classifier.0.weight"].T
    refused(good | {"classifier.0.weight": turned}, "classifier.0.weight is")
    assert set(vgg16_params(good, shapes(model))) == {f"stage_{n}" for n in range(1, 6)} | {
        "fc6",
        "fc7",
    }


# What no one should run.


class Trap:
    """Runs a function where it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def archive(path, content):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", content)


@pytest.mark.parametrize("form", ["zip", "stream"])
def test_a_pickle_that_wants_more_is_refused_and_not_run(tmp_path, form):
    bait = tmp_path / "bait"
    for trap in (
        Trap(os.mkdir, str(bait)),
        Trap(eval, f"__import__('os').mkdir({str(bait)!r})"),
        collections.OrderedDict(weight=Trap(os.mkdir, str(bait))),
    ):
        content = pickle.dumps(trap, 2)
        path = tmp_path / "evil.pth"
        archive(path, content) if form == "zip" else path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"evil\.pth cannot be read .*it asks for .*nothing in it was run"
        ):
            load_weights(path)
        assert not bait.exists()
        pickle.loads(content)  # The trap itself works.
        bait.rmdir()


@pytest.mark.parametrize("form", ["zip", "stream", "safetensors"])
def test_a_cut_file_is_refused(vgg, peer, tmp_path, form):
    torch, _, state = vgg
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        peer("safetensors.torch").save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    for share in (0.0, 0.001, 0.3, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=f"{path.name} cannot be read as weights"):
            load_weights(path)


def test_no_cut_of_a_stream_and_no_emptied_entry_passes(peer, tmp_path):
    """Of a storage without a byte NumPy would read what lies behind it in memory."""
    torch, path = peer("torch"), tmp_path / "w.pth"
    state = {"w": torch.ones(5), "nothing": torch.ones(0)}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    assert load_weights(path)["w"].tolist() == 5 * [1] and load_weights(path)["nothing"].size == 0
    for length in range(len(whole) - 8):  # The last may be the length of the empty storage, 0.
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cannot be read as weights"):
            load_weights(path)

    torch.save({"w": torch.ones(5)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, b"" if "/data/" in name else content)
    with pytest.raises(ValueError, match="the bytes of w are missing"):
        load_weights(path)


def test_what_is_no_state_dict_is_refused(vgg, tmp_path):
    torch, net, state = vgg
    for name, content, why in [
        ("list", [1], ""),
        ("epoch", {"epoch": 3}, ".*'epoch' is no tensor.*tensors alone"),
        ("net", net, ""),
        ("nested", {"s": state, "epoch": 3}, ".*'s' is no tensor.*tensors alone"),
    ]:
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(ValueError, match=f"{name}.pth cannot be read as weights{why}"):
            load_weights(tmp_path / f"{name}.pth")
    with pytest.raises(ValueError, match="none.pth cannot be read .* No such file"):
        load_weights(tmp_path / "none.pth")


def test_a_tensor_beyond_its_storage_is_refused(vgg, tmp_path):
    torch, _, _ = vgg
    path = tmp_path / "w.pth"
    torch.save({"w": torch.arange(4.0)}, path)
    with zipfile.ZipFile(path) as file:
        files = {name: file.read(name) for name in file.namelist()}
    (storage,) = (name for name in files if "/data/" in name)
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content[:-4] if name == storage else content)
    with pytest.raises(ValueError, match="cannot be read as weights"):
        load_weights(path)
