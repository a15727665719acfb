"""Arguments of launches that end in seconds, one of each task."""

TINY = {
    "quickstart": [
        "--set=model.width=2", "--set=model.depth=1", "--set=data.batch_size=8", "--set=steps=4",
        "--set=eval_every=4", "--set=log_every=1", "--set=data.options.train_scenes=8",
        "--set=data.options.validation_scenes=8", "--set=data.options.test_scenes=10",
    ],
    "triplet_digits": ["--set=steps=2", "--set=eval_every=2", "--set=log_every=1"],
}  # fmt: skip
