"""The ragkit command as a script, which torchrun can start in several processes."""

import sys

from ragkit.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
