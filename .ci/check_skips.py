"""Fails on a skip that .ci/allowed_skips.txt does not name: check_skips.py ENVIRONMENT REPORT"""

import pathlib
import sys
import xml.etree.ElementTree as ET

ALLOWED = pathlib.Path(__file__).with_name("allowed_skips.txt")


def allowed(environment: str) -> list[str]:
    """The starts of reasons that the list names for an environment, or for "any"."""
    found = []
    for line in ALLOWED.read_text(encoding="utf-8").splitlines():
        where, _, reason = line.partition(" ")
        if where in (environment, "any"):
            found.append(reason.strip())
    return found


def main(environment: str, report: str) -> int:
    reasons = allowed(environment)
    cases = list(ET.parse(report).iter("testcase"))
    skipped = [(case, skip) for case in cases for skip in case.iter("skipped")]
    bad = []
    for case, skip in skipped:
        message = skip.get("message", "").removeprefix("Skipped: ")
        if not message.startswith(tuple(reasons)):
            bad.append(f"{case.get('classname')}::{case.get('name')}: {message}")
    print(f"{environment}: {len(cases)} tests, {len(skipped)} skipped, {len(bad)} of them unlisted")
    print(*bad, sep="\n", file=sys.stderr)
    return 1 if bad or not cases else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
