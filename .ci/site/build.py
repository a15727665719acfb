"""Builds the site of the pages and docstrings. python .ci/site/build.py OUT, with the extra `docs`.

MkDocs takes one folder of pages; ours lie beside what they speak of. So they are copied with their
pictures, in their own places, to a folder that is thrown away, and a page a package is added whose
docstrings mkdocstrings reads. Warnings, so broken links too, are errors.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = (
    "README.md", "zoo/README.md", "experiments/README.md", "experiments/RESULTS.md",
    "colab/README.md", "experiments/bench/bench.md", "experiments/bench/NOTES.md",
    "tests/CONTRIBUTING.md", "CHANGELOG.md",
)  # fmt: skip
TOOLS = ("launch", "overrides", "plan", "sweep", "compare", "search")  # The rest are recipes.


def main(out: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        docs = pathlib.Path(folder, "docs")
        for file in [ROOT / page for page in PAGES] + [
            f for kind in ("png", "ipynb") for f in sorted(ROOT.glob(f"[!.]*/**/*.{kind}"))
        ]:
            place = docs / file.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        packages = [ROOT / "experiments"]
        packages += [file.parent for top in ("zoo", "experiments")
                     for file in sorted(ROOT.glob(f"{top}/*/__init__.py"))]  # fmt: skip
        for package in packages:
            name = ".".join(package.relative_to(ROOT).parts)
            modules = [f.stem for f in sorted(package.glob("[!_]*.py"))]
            modules = TOOLS if name == "experiments" else modules
            text = "\n\n".join(f"::: {name}.{module}" for module in modules)
            page = docs / "api" / f"{name.removeprefix('zoo.')}.md"
            page.parent.mkdir(exist_ok=True)
            page.write_text(f"# {name}\n\n{text}\n", encoding="utf-8")
        here, config = pathlib.Path(__file__).parent, pathlib.Path(folder, "mkdocs.yml")
        shutil.copyfile(here / "site.css", docs / "site.css")
        shutil.copyfile(here / "mkdocs.yml", config)
        shutil.copyfile(here / "doctests.py", config.with_name("doctests.py"))
        build = ["build", "--strict", "--config-file", config]
        target = ["--site-dir", pathlib.Path(out).resolve()]
        command = [sys.executable, "-m", "mkdocs", *build, *target]
        if code := subprocess.run(command, env={**os.environ, "ZOO_ROOT": str(ROOT)}).returncode:
            return code
    for page in pathlib.Path(out).glob("api/*/index.html"):
        if "<blockquote>" in page.read_text(encoding="utf-8"):
            print(f"{page}: a docstring's part begins with >, which Markdown quotes.")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
