"""What the bench asks: scenes, candidates, and the requests of each column."""
