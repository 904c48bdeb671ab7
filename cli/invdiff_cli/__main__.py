"""`python -m invdiff_cli` is `invdiff`."""

from invdiff_cli import main

if __name__ == "__main__":
    main()
