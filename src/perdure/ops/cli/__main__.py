"""``python -m perdure.ops.cli``, where the script ``perdure`` is not on the path."""

import sys

from perdure.ops.cli import main

sys.exit(main())
