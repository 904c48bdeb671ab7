"""All operators against their peers, in one run: python benchmarks/operators.py [--only ct multicoil nufft blur]

Each section is a script of its own beside this one, with options of its own.
"""

import argparse
import runpy
import sys
from pathlib import Path

SECTIONS = ("ct", "multicoil", "nufft", "blur")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    for section in parser.parse_args().only:
        script = str(Path(__file__).with_name(f"{section}.py"))
        sys.argv = [script]
        runpy.run_path(script, run_name="__main__")
