"""``python -m chronomap``: the command line."""

import sys

from chronomap.cli import main

if __name__ == "__main__":
    sys.exit(main())
