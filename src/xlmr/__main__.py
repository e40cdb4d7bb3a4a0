"""`python -m xlmr` is `xlmr`."""

from xlmr.cli.main import main

if __name__ == "__main__":
    main()
