"""Model directories: read, inspected, downloaded, converted."""
