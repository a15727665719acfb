"""Using a trained model: load it, predict or embed pictures in memory or in files, verify two."""

from zoo.infer.embed import embed, embed_files
from zoo.infer.export import export
from zoo.infer.files import predict_files
from zoo.infer.load import Trained, load, load_run
from zoo.infer.predict import logit_strips, predict, predict_logits
from zoo.infer.verify import verify
from zoo.train.process import set_up_process

__all__ = [
    "Trained", "embed", "embed_files", "export", "load", "load_run", "logit_strips", "predict",
    "predict_files", "predict_logits", "set_up_process", "verify",
]  # fmt: skip
