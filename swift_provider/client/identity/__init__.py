"""Signing in: token and endpoint. The only folder that imports keystoneauth1.

:mod:`~swift_provider.client.identity.clouds` finds the cloud and its credentials,
:mod:`~swift_provider.client.identity.token` decides when to sign in,
:mod:`~swift_provider.client.identity.keystone` signs in.
"""
