"""`python -m aitbc` is `aitbc`."""

from aitbc.cli import main

if __name__ == "__main__":
    main()
