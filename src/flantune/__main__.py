"""`python -m flantune`."""

from flantune.cli import main

if __name__ == "__main__":
    main()
