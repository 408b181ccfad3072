"""The checks of the command ``check``: what can be known before Synapse is restarted."""
