"""What each part costs beside what a user would take instead: `python -m experiments.bench`."""
