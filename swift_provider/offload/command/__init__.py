"""The program ``swift_media_upload``: arguments, configuration, output, exit status."""
