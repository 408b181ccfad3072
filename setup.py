"""What setup.cfg cannot say: equal files and one SOURCE_DATE_EPOCH make equal archives."""

from __future__ import annotations

import gzip
import os
import tarfile

from setuptools import setup
from setuptools.command.sdist import sdist


class ReproducibleSdist(sdist):
    """An sdist without the build's time, user and umask in it; setuptools packs all three."""

    def make_archive(self, base_name: str, format: str, **options: str | None) -> str:  # noqa: A002
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if epoch is None or format != "gztar":
            return super().make_archive(base_name, format, **options)

        def normal(entry: tarfile.TarInfo) -> tarfile.TarInfo:
            entry.mtime = int(epoch)
            entry.mode = 0o755 if entry.mode & 0o100 else 0o644
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            return entry

        path = f"{base_name}.tar.gz"
        with (
            open(path, "wb") as file,
            gzip.GzipFile("", "wb", mtime=int(epoch), fileobj=file) as packed,
            tarfile.open(mode="w", fileobj=packed) as archive,
        ):
            archive.add(options["base_dir"], filter=normal)  # sorts each folder's entries
        return path


# The wheel has the modes of the files that are written during the build.
os.umask(0o022)
setup(cmdclass={"sdist": ReproducibleSdist})
