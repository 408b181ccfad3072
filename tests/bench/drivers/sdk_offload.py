"""``sdk_offload BASE CONTAINER``: openstacksdk, one file after the other."""

import os
import sys

import openstack


def main() -> None:
    base, container = sys.argv[1:]
    connection = openstack.connect()
    for folder, _, names in os.walk(base):
        for name in names:
            path = os.path.join(folder, name)
            connection.create_object(container, os.path.relpath(path, base), filename=path)


if __name__ == "__main__":
    main()
