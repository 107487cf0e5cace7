"""``python -m tinymaml`` is the command ``tinymaml``."""

from .cli import console

if __name__ == "__main__":
    console()
