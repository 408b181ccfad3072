"""Several places in Swift that hold the same objects, used as one."""

from swift_provider.client.mirrors.mirror_set import MirrorSet

__all__ = ["MirrorSet"]
