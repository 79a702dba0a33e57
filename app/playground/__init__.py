"""The playground: the page at ``/`` in which people make pictures. Its source is in ``web``."""
