"""`python -m lictor` is the same as `lictor`."""

from lictor.cli.main import main

if __name__ == "__main__":
    main()
