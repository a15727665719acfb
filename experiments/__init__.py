"""Experiments: one short file each, launched by `python -m experiments.launch`."""
