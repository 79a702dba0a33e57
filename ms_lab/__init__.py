"""How the model is trained and measured. Serving imports none of it."""

# Before torch: says how its threads wait.
import ms_core as ms_core
