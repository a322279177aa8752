"""Writes a piano recording down: MT3's player, with this model's artifacts."""

import sys

from models.mt3.player import main

if __name__ == "__main__":
    sys.exit(main(model="ismir2021"))
