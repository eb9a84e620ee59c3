"""``perdure run``, but whoever dies again and again comes again as soon as the first time.

python -m tests.survival.parent run tests.survival.crowd:app --processes 3
"""

from __future__ import annotations

import runpy

from perdure.ops.cli import processes

if __name__ == "__main__":
    processes.STEADY_S = 0.0  # each death is the first in a row
    runpy.run_module("perdure.ops.cli", run_name="__main__", alter_sys=True)
