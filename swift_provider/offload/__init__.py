"""Moving old media from Synapse's disk to Swift, in bulk.

``command`` is what a person meets, ``jobs`` has one module for each command's work, and
the modules beside them are what the jobs share. Only ``command`` reads the command
line, prints, handles signals and chooses the exit status.

Each source is believed about one thing: Synapse's database about what a file must be,
the disk about what is there, Swift about what it holds. The cache (``cache.db``) is only
a list of what to look at.
"""

from swift_provider.offload.command.cli import main

__all__ = ["main"]
