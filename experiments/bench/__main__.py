"""Times our parts beside those of other libraries. Needs the extra `peers`.

python -m experiments.bench [ROW...] [--repeats 5] [--patience S] [--list] [--quick]

A ROW is a row's name or the first parts of several, as "unet" or "mining/batch_all_triplet"; none
means all. Each row's record goes into bench.json here as soon as it is there, and bench.md is
written anew from all records; rows measured before stay. Run it in experiments/bench to renew the
tables that are kept there. With --quick sizes are tiny, to see whether a row
runs, and nothing is written.
"""

import argparse
import pathlib
import sys

from experiments.bench import (
    encoders,
    gpu,
    inputs,
    launcher,
    mining,
    scores,
    segmentation,
    siamese,
    startup,
)
from experiments.bench.row import Row
from experiments.bench.runner import gpus, measure_all
from experiments.bench.table import machines, markdown, merge, read, table, write

FAMILIES = (segmentation, encoders, mining, siamese, inputs, scores, startup, launcher, gpu)


def every(*, quick: bool = False) -> list[Row]:
    """All rows there are."""
    return [row for family in FAMILIES for row in family.rows(quick=quick)]


def chosen(rows: list[Row], words: list[str]) -> list[Row]:
    """The rows that the words name; ValueError for a word that names none."""
    found = []
    for word in words:
        named = [row for row in rows if f"{row.name}/".startswith(f"{word.rstrip('/')}/")]
        if not named:
            raise ValueError(f"There is no row {word!r}; see python -m experiments.bench --list.")
        found += [row for row in named if row not in found]
    return found if words else rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help="a name or its first parts; all")
    parser.add_argument("--repeats", type=int, default=5, help="rounds, at least 1")
    parser.add_argument("--patience", type=float, help="seconds in which a side must be ready")
    parser.add_argument("--list", action="store_true", help="names the rows and ends")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; writes nothing")
    options = parser.parse_args()
    path, rows = pathlib.Path("bench.json"), every(quick=options.quick)
    try:
        wanted, records = chosen(rows, options.rows), read(path)
        if options.repeats < 1:
            raise ValueError(f"--repeats must be at least 1; got {options.repeats}.")
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    if options.list:
        print("\n".join(f"{row.name:32} {row.what}" for row in wanted))
        return
    if left := [row.name for row in wanted if row.on_gpu and not gpus()]:
        print(f"There is no NVIDIA GPU here: {len(left)} rows are not run.", file=sys.stderr)
        wanted = [row for row in wanted if row.name not in left]  # Nor are their records touched.
    measured = measure_all(wanted, options.repeats, options.patience)
    for i, (row, record) in enumerate(measured, start=1):
        print(f"{i}/{len(wanted)} {row.name}: {row.what}", file=sys.stderr)
        if options.quick:
            records[row.name] = record
        else:
            records = merge(path, row.name, record)
            write(path.with_suffix(".md"), markdown(rows, records))
        print(table([row], records), *machines([row], records), sep="\n", flush=True)


if __name__ == "__main__":
    main()
