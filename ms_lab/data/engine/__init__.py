"""Running the stages: Ray Data on one machine or a cluster, restartable, with progress and a plan."""
