"""The commands meet the model, see ``model_libraries``."""

import model_libraries  # noqa: F401
