"""Model directories: fetched from a hub, or made of local files.

``repositories`` says where the parts lie on the hub, ``hub`` and ``transfer`` fetch them, ``bases``, ``single_file``,
``weights`` and ``parts`` read what others publish, and ``convert`` makes one directory of it all.
"""
