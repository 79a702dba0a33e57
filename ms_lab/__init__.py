"""How the model is trained and measured. Serving imports none of it."""
