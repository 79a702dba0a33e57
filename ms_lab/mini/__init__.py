"""The bundled model's scenes and recipe."""
