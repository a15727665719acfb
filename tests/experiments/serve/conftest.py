import pytest

from serving import running, segmenting


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return segmenting(tmp_path_factory.mktemp("runs") / "shapes")


@pytest.fixture(scope="module")
def url(run):
    with running(run) as at:
        yield at
