"""The launcher's sources: templates and prebuilt code that become an archive's first 64 KiB."""
