"""The model to pack: finding it, reading its header, and checking it before anything is written."""
