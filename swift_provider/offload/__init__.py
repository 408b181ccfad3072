"""Moving old media from Synapse's disk to Swift, in bulk.

A library first: nothing in here exits, prints or reads ``sys.argv``, except
:mod:`swift_provider.offload.cli`, the face of the script ``swift_media_upload``.

Who is to be believed: Synapse's database about what a file must be, the disk
about what is there, Swift about what it holds. The cache (``cache.db``) is
only a list of what to look at.
"""
