"""How well a picture turned out, subject by subject: the model's own scorer."""

from ms_core.scoring.network import ScorerNetwork
from ms_core.scoring.scorer import Scorer
from ms_core.scoring.views import Question

__all__ = ["Question", "Scorer", "ScorerNetwork"]
