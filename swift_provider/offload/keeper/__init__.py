"""The process that the module starts to keep Synapse's disk within its limits: one run each.

``python -m swift_provider.offload.keeper`` reads an order from its standard input, does what
it says, and reports on its standard output (see :mod:`swift_provider.keeper`). It is a process
of its own, so that hashing files and walking through folders never holds up Synapse, and so
that its memory is gone afterwards.

It may be killed at any time. It ends by itself as soon as its standard input is closed, which
the kernel does if Synapse is killed.
"""
