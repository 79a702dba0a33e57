"""Nearly all of these tests meet the model, see ``tests.support.model_libraries``."""

import tests.support.model_libraries  # noqa: F401
