"""Token and endpoint: the only part that imports keystoneauth1.

:mod:`~swift_provider.client.identity.token` decides when to sign in,
:mod:`~swift_provider.client.identity.keystone` does it,
:mod:`~swift_provider.client.identity.clouds` finds out where and with what.
"""
