"""Harmonizes a melody: Coconet's player, with this model's artifacts."""

import sys

from models.coconet.player import main

if __name__ == "__main__":
    sys.exit(main(model="coconetjs"))
