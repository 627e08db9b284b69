"""The archive: where every member lies, and writing it in one pass."""
