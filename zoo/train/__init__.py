"""Training: configuration, step, devices, loop, checkpoints and logs."""
