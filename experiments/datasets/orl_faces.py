"""The ORL (AT&T) faces: up to 40 persons with 10 grey pictures each, 92x112 pixels.

Samaria and Harter, "Parameterisation of a stochastic model for human face identification", WACV
1994; credit is due to Olivetti Research Laboratory. Each person has a folder s1, s2 ... of .pgm
files and is in one split only: to know a face anew must be learnt of strangers.
"""

from collections.abc import Mapping

from experiments.datasets._chosen import parse_numbers, split_by_name
from experiments.datasets.image_folder_classes import ClassFolders


class OrlFaces(ClassFolders):
    """See the module. Options list persons by folder number ("19-22,25"); all others train."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = "give the one with s1, s2 ... of .pgm files as data.path."
    CHANNELS = 1
    MEAN, STD = (0.4448,), (0.1983,)
    OPTIONS: Mapping = dict(validation_persons="19-22", test_persons="23-30")

    def split_names(self, classes: list[str], pictures: list[str]) -> dict[str, str]:
        chosen = {o: [f"s{n}" for n in parse_numbers(t, o)] for o, t in self.options.items()}
        return split_by_name(classes, chosen)
