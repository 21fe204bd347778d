"""`python -m dpr_lance`: the command line."""

from dpr_lance.cli.app import main

if __name__ == "__main__":
    main()
