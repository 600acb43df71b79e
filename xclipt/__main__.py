"""``python -m xclipt``."""

from xclipt.cli.app import main

main()
