"""``swift_media_upload`` as a person meets it: arguments, configuration, output, exit status."""
