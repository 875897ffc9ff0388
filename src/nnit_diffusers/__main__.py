"""`python -m nnit_diffusers` is the command `nnit`."""

from .cli.main import main


if __name__ == "__main__":
    main()
