"""Moves old media in bulk from Synapse's disk to Swift: the script ``swift_media_upload``.

``command`` is the program: command line, configuration, signals, output, exit status.
``jobs`` has one module for each command's work. The modules beside them are shared by
the jobs.

Each kind of fact has one source. Synapse's database says what a file must be, the disk
says which files exist, and Swift says what it holds. The cache (``cache.db``) only lists
the media to look at.
"""

from swift_provider.offload.command.cli import main

__all__ = ["main"]
